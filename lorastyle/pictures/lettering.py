"""Words on pictures: lines that fit, in a font that has their letters; without a network or files of ours."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Looked for where the built-in font, which knows little but ASCII, lacks a letter; in the system's folders.
_OTHER_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc"),
    *("segoeui.ttf", "arial.ttf", "msyh.ttc", "YuGothM.ttc", "malgun.ttf"),  # Windows
    *("Arial Unicode.ttf", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Helvetica.ttc"),  # macOS
)
_MISSING = "\uffff"  # no font has it: it looks as every letter does that a font lacks
_PLAIN = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    **dict.fromkeys("\u2018\u2019\u201a", "'"),
    **dict.fromkeys("\u201c\u201d\u201e", '"'),
    "\u00d7": "x",
    "\u00df": "ss",
    "\u00f8": "o",
}


@dataclass(frozen=True)
class Line:
    """A line of text, and what to draw it with."""

    text: str
    font: Font


def fit_text(text: str, size: int, room: float, lines: int = 1) -> tuple[Line, ...]:
    """`text` in up to `lines` lines of at most `room` pixels, cut with an ellipsis where it is longer.

    Lines break between words, and within a word that is too long for a line. There is at least one line.
    """
    text = " ".join(text.split())[: 400 * lines]  # what cannot fit anyway costs nothing
    font = _font_for(text, size)
    text = "".join(letter if _has(font, letter) else _plain(letter) for letter in text)
    broken: list[str] = []
    rest = text
    while rest and len(broken) < lines - 1:
        head = _head(rest, font, room)
        broken.append(head.rstrip())
        rest = rest[len(head) :].lstrip()
    if rest or not broken:
        broken.append(_cut(rest, font, room))
    return tuple(Line(line, font) for line in broken)


def _head(text: str, font: Font, room: float) -> str:
    """As much of `text` as fits into a line, to the end of a word where there is one; at least a letter."""
    if font.getlength(text) <= room:
        return text
    fits = _longest(text, font, room)
    space = text.rfind(" ", 0, fits + 1)
    return text[: space if space > 0 else max(fits, 1)]


def _cut(text: str, font: Font, room: float) -> str:
    if font.getlength(text) <= room:
        return text
    return text[: _longest(text, font, room - font.getlength("…"))].rstrip() + "…"


def _longest(text: str, font: Font, room: float) -> int:
    """How many letters fit, by halving."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= room else (low, middle - 1)
    return low


def _font_for(text: str, size: int) -> Font:
    """The built-in font, or the first one that has more of the letters."""
    letters = sorted({letter for letter in text if not letter.isascii()})
    best: Font = _built_in(size)
    missing = _lacking(best, letters)
    for name in _OTHER_FONTS if missing else ():
        font = _system_font(name, size)
        if font is not None and (lacks := _lacking(font, letters)) < missing:
            best, missing = font, lacks
        if not missing:
            break
    return best


def _lacking(font: Font, letters: Sequence[str]) -> int:
    return sum(not _has(font, letter) for letter in letters)


@cache
def _built_in(size: int) -> Font:
    return ImageFont.load_default(size)


@cache
def _system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:  # this system does not have it
        return None


def _has(font: Font, letter: str) -> bool:
    if letter.isascii() or not isinstance(font, ImageFont.FreeTypeFont):
        return True
    return letter.isspace() or _looks(font, letter) != _looks(font, _MISSING)


def _plain(letter: str) -> str:
    """What stands for a letter that no font here has: itself without its accent, else the box of the font."""
    base = unicodedata.normalize("NFKD", letter)[:1]
    return _PLAIN.get(letter) or (base if base.isascii() else _MISSING)


@lru_cache(4096)
def _looks(font: ImageFont.FreeTypeFont, letter: str) -> bytes:
    image = Image.new("L", (round(3 * font.size), round(2 * font.size)))
    ImageDraw.Draw(image).text((0, 0), letter, fill=255, font=font)
    return image.tobytes()
