"""The sheet at the end: the same prompts and seeds, left without and right with the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from lorastyle.pictures import GREY, Paper

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
    sheet = Paper(width, top + rows * pair_height + (rows - 1) * 16 + MARGIN // 2)
    sheet.text((MARGIN, MARGIN - 10), title, 34, width - 2 * MARGIN)
    sheet.text((MARGIN, MARGIN + 36), subtitle, 16, width - 2 * MARGIN, fill=GREY)
    for column in range(columns):
        x = MARGIN + column * (pair_width + BETWEEN)
        sheet.text((x, top - 26), "without", 15, side, fill=GREY)
        sheet.text((x + side + GAP, top - 26), "with the adapter", 15, side)
    for i, pair in enumerate(pairs):
        x = MARGIN + (i % columns) * (pair_width + BETWEEN)
        y = top + (i // columns) * (pair_height + 16)
        sheet.picture(pair.without, (x, y), (side, side))
        sheet.picture(pair.with_adapter, (x + side + GAP, y), (side, side))
        sheet.text((x, y + side + 8), pair.prompt, 16, pair_width)
    return sheet.image
