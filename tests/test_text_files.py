"""Text as editors and spreadsheets save it."""

from __future__ import annotations

import codecs

import pytest

from lorastyle.text_files import decode_text

TEXT = "a woman\u2019s hat, naïve “café”\nsecond line"


@pytest.mark.parametrize(
    ("data", "guessed"),
    [
        (TEXT.encode(), ""),
        (codecs.BOM_UTF8 + TEXT.encode(), ""),
        (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), ""),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), ""),
        (codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"), ""),
        (TEXT.encode("utf-16-le"), "UTF-16"),
        (TEXT.encode("utf-16-be"), "UTF-16"),
        (TEXT.encode("utf-32-le"), "UTF-32"),
        (TEXT.encode("utf-32-be"), "UTF-32"),
        (TEXT.encode("cp1252"), "Windows-1252"),
        (TEXT.replace("\n", "\r\n").encode(), ""),
        (TEXT.replace("\n", "\r").encode(), ""),
    ],
)
def test_every_encoding_says_the_same(data: bytes, guessed: str) -> None:
    decoded = decode_text(data)
    assert decoded.text == TEXT and decoded.guessed == guessed and not decoded.doubtful
    assert bool(decoded.note) == bool(guessed)


def test_one_line_pasted_from_elsewhere_spoils_no_other() -> None:
    decoded = decode_text("ein Bär\n".encode() + "ein Bär\n".encode("cp1252"))
    assert (decoded.text, decoded.guessed, decoded.line) == ("ein Bär\nein Bär\n", "Windows-1252", 2)


@pytest.mark.parametrize(
    ("text", "encoding", "doubtful"),
    [
        ("Мишка на диване", "cp1251", True),
        ("猫がいる", "shift-jis", True),
        ("кот", "koi8-r", False),  # three letters are as well Western
    ],
)
def test_other_encodings_are_doubted(text: str, encoding: str, doubtful: bool) -> None:
    decoded = decode_text(f"prompt\n{text} {text}".encode(encoding))
    assert (decoded.guessed, decoded.doubtful) == ("Windows-1252", doubtful)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"a\0b", b"\xff", b"\xff\xfe", b"\x81", b"a" * 9, bytes(range(256))]
)
def test_any_bytes_are_some_text(data: bytes) -> None:
    assert isinstance(decode_text(data).text, str)
    assert decode_text(b"a cat\0").text == "a cat\0"  # a stray zero is not UTF-16
