"""A white sheet to put pictures and words on."""

from __future__ import annotations

from PIL import Image, ImageDraw

from .lettering import fit_text

INK, GREY, LINE, WHITE, SHADE = "#1c1c1e", "#8e8e93", "#e5e5ea", "#ffffff", "#f2f2f7"
_SHARP = 4  # round corners are drawn that many times larger, and shrunk


class Paper:
    """A sheet in the making.

    Attributes:
        image: RGB.
    """

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), WHITE)
        self._pen = ImageDraw.Draw(self.image)

    def text(
        self,
        at: tuple[float, float],
        text: str,
        size: int,
        room: float,
        *,
        fill: str = INK,
        lines: int = 1,
        centred: bool = False,
    ) -> None:
        """Up to `lines` lines of text from their upper left corner, cut where they are wider than `room`
        pixels; `centred` in that room.
        """
        x, y = at
        for line in fit_text(text, size, room, lines):
            left = x + (room - line.font.getlength(line.text)) / 2 if centred else x
            self._pen.text((left, y), line.text, fill=fill, font=line.font)
            y += line_height(size)

    def picture(
        self, picture: Image.Image, at: tuple[int, int], size: tuple[int, int], radius: int = 10
    ) -> None:
        """A picture resized to (width, height), with round corners in a thin frame: many are white, and so is
        the paper.
        """
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        corners = Image.new("L", (size[0] * _SHARP, size[1] * _SHARP), 0)
        whole = (0, 0, corners.width - 1, corners.height - 1)
        ImageDraw.Draw(corners).rounded_rectangle(whole, radius * _SHARP, fill=255)
        self.image.paste(small, at, corners.resize(size, Image.Resampling.LANCZOS))
        self._pen.rounded_rectangle(_box(at, size), radius, outline=LINE)

    def gap(self, at: tuple[int, int], size: tuple[int, int], text: str, radius: int = 10) -> None:
        """The place of a picture that is not there, and why."""
        self._pen.rounded_rectangle(_box(at, size), radius, fill=SHADE, outline=LINE)
        letters = 14
        lines = max(1, min(5, (size[1] - 16) // line_height(letters)))
        room = max(8, size[0] - 16)
        self.text((at[0] + 8, at[1] + 8), text, letters, room, fill=GREY, lines=lines)

    def cell(self, at: tuple[int, int], size: tuple[int, int], fill: str) -> None:
        """A coloured rectangle."""
        self._pen.rectangle(_box(at, size), fill=fill)


def line_height(size: int) -> int:
    """Pixels from one line of text to the next."""
    return round(size * 1.3)


def _box(at: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    return (*at, at[0] + size[0] - 1, at[1] + size[1] - 1)
