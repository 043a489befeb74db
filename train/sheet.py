"""The sheet at the end: the same prompts and seeds, left without and right with the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

INK, GREY, LINE, PAPER = "#1c1c1e", "#8e8e93", "#e5e5ea", "#ffffff"
MARGIN, GAP, BETWEEN = 48, 8, 40  # around the sheet, inside a pair, between pairs


@dataclass(frozen=True)
class Pair:
    """One prompt, drawn twice with the same seed."""

    prompt: str
    without: Image.Image
    with_adapter: Image.Image


def make_sheet(pairs: Sequence[Pair], title: str, subtitle: str) -> Image.Image:
    """Pairs in rows of one (up to three pairs), two (up to six) or three, under a title."""
    columns = 1 if len(pairs) <= 3 else 2 if len(pairs) <= 8 else 3
    rows = -(-len(pairs) // columns)
    side = max(192, min(256, max(pair.without.width for pair in pairs)))
    pair_width, pair_height, top = 2 * side + GAP, side + 40, MARGIN + 110
    width = 2 * MARGIN + columns * pair_width + (columns - 1) * BETWEEN
    sheet = Image.new("RGB", (width, top + rows * pair_height + (rows - 1) * 16 + MARGIN // 2), PAPER)
    pen = ImageDraw.Draw(sheet)
    _text(pen, (MARGIN, MARGIN - 10), title, 34, INK, width - 2 * MARGIN)
    _text(pen, (MARGIN, MARGIN + 36), subtitle, 16, GREY, width - 2 * MARGIN)
    for column in range(columns):
        x = MARGIN + column * (pair_width + BETWEEN)
        _text(pen, (x, top - 26), "without", 15, GREY, side)
        _text(pen, (x + side + GAP, top - 26), "with the adapter", 15, INK, side)
    for i, pair in enumerate(pairs):
        x = MARGIN + (i % columns) * (pair_width + BETWEEN)
        y = top + (i // columns) * (pair_height + 16)
        _paste(sheet, pen, pair.without, (x, y), side)
        _paste(sheet, pen, pair.with_adapter, (x + side + GAP, y), side)
        _text(pen, (x, y + side + 8), pair.prompt, 16, INK, pair_width)
    return sheet


def _paste(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, picture: Image.Image, at: tuple[int, int], side: int
) -> None:
    """The picture with round corners in a thin frame: many are white, and so is the paper."""
    corners = Image.new("L", (side * 4, side * 4), 0)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, side * 4 - 1, side * 4 - 1), 40, fill=255)
    small = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    sheet.paste(small, at, corners.resize((side, side), Image.Resampling.LANCZOS))
    pen.rounded_rectangle((*at, at[0] + side - 1, at[1] + side - 1), 10, outline=LINE)


def _text(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, fill: str, room: int) -> None:
    """One line, cut with an ellipsis where it is wider than `room` pixels."""
    font = ImageFont.load_default(size)
    if pen.textlength(text, font) > room:
        while text and pen.textlength(text + "…", font) > room:
            text = text[:-1]
        text = text.rstrip() + "…"
    pen.text(at, text, fill=fill, font=font)
