"""Text files as people's editors and spreadsheets save them: which letters their bytes are."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

_MARKS = (  # UTF-32 before UTF-16, whose mark is how the other begins
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_WINDOWS = {  # a byte that is no UTF-8, as `surrogateescape` keeps it -> its letter in Windows-1252
    0xDC00 + byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0x100)
}
_UNDEFINED = frozenset((0x81, 0x8D, 0x8F, 0x90, 0x9D))  # no letters in Windows-1252
_SAMPLE = 4096


@dataclass(frozen=True)
class DecodedText:
    """What a file says.

    Attributes:
        text: without a byte order mark; line ends are "\\n" whatever system wrote them.
        guessed: the encoding, where the file does not say it and it is not UTF-8: "Windows-1252", "UTF-16" or
            "UTF-32". Empty where there was nothing to guess.
        doubtful: whether even Windows-1252 is unlikely: bytes that have no letter in it, or words of such
            letters only, as Cyrillic or Chinese encodings have them.
        line: of the first guessed letter, from 1.
    """

    text: str
    guessed: str = ""
    doubtful: bool = False
    line: int = 1

    @property
    def note(self) -> str:
        """What whoever wrote the file should check; empty where nothing was guessed."""
        if not self.guessed:
            return ""
        if self.guessed == "Windows-1252":
            return "is not in UTF-8 and was read as Windows-1252: check its accents and quotation marks"
        return f"has no byte order mark and was read as {self.guessed}"


def decode_text(data: bytes) -> DecodedText:
    """The text of a file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark, or Windows-1252.

    Each byte that is no part of UTF-8 is read as a letter of Windows-1252, so that neither a file in that
    encoding nor a line that was pasted from one loses anything. This never fails.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return DecodedText(_plain_lines(data.decode(encoding, "replace")))
    if wide := _wide_encoding(data[:_SAMPLE]):
        text = _plain_lines(data.decode(wide, "replace"))
        return DecodedText(text, wide[:6].upper())
    escaped = _plain_lines(data.decode("utf-8", "surrogateescape"))
    first = next((i for i, letter in enumerate(escaped) if _is_escaped(letter)), None)
    if first is None:
        return DecodedText(escaped)
    return DecodedText(
        escaped.translate(_WINDOWS), "Windows-1252", _is_doubtful(escaped), escaped.count("\n", 0, first) + 1
    )


def _plain_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _wide_encoding(sample: bytes) -> str:
    """UTF-16 or UTF-32 without a mark, by where zero bytes are; a stray zero makes neither."""
    zeros = [sample[i::4].count(0) for i in range(4)]
    quarter = len(sample) // 4
    if quarter < 1 or sum(zeros) * 4 < len(sample):
        return ""
    if min(zeros[2], zeros[3]) >= quarter * 0.9 and zeros[0] < quarter:
        return "utf-32-le"
    if min(zeros[0], zeros[1]) >= quarter * 0.9 and zeros[3] < quarter:
        return "utf-32-be"
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    return "utf-16-le" if odd > 4 * even else "utf-16-be" if even > 4 * odd else ""


def _is_escaped(letter: str) -> bool:
    return 0xDC80 <= ord(letter) <= 0xDCFF


def _is_doubtful(escaped: str) -> bool:
    """Western words have one foreign letter among plain ones, hardly ever four in a row."""
    row = 0
    for letter in escaped:
        row = row + 1 if _is_escaped(letter) else 0
        if row > 3 or (row and ord(letter) - 0xDC00 in _UNDEFINED):
            return True
    return False
