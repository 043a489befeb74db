"""Contact sheets: all pictures of a batch, small, with what drew them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path

from PIL import Image

from lorastyle.pictures import FORMATS, GREY, Paper, Unusable, fit_text, line_height, open_picture

MARGIN, GAP, TOP = 32, 16, 76
SIDE = 176  # pixels of a small picture, its longer side
MOST_COLUMNS, MOST_ROWS = 8, 12
MOST_ON_SHEET = MOST_COLUMNS * MOST_ROWS
_LETTERS = 13


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet.

    Attributes:
        path: None where it was not drawn.
        label: what it shows.
        note: what else, in grey; why it was not drawn, where it was not.
    """

    path: Path | None
    label: str
    note: str


def contact_sheets(cells: Sequence[Cell], title: str) -> Iterator[Image.Image]:
    """As many sheets as the pictures need, `MOST_ON_SHEET` on each. Only one is in memory."""
    count, rest = -(-len(cells) // MOST_ON_SHEET), iter(cells)
    for number in range(1, count + 1):
        of = f", sheet {number} of {count}" if count > 1 else ""
        yield _sheet(list(islice(rest, MOST_ON_SHEET)), title, f"{len(cells):,} pictures{of}")


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) of a picture shrunk or enlarged so that its longer side is `side`."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def picture_size(path: Path | None) -> tuple[int, int] | None:
    """(width, height) from the file's header; None where there is none."""
    try:
        if path is None:
            return None
        with Image.open(path, formats=FORMATS) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # damaged since
        return None


def read_picture(path: Path | None) -> Image.Image | None:
    """The picture, None where there is none that can be read."""
    try:
        return None if path is None else open_picture(path).image
    except Unusable:
        return None


def to_jpeg(sheet: Image.Image) -> bytes:
    """The bytes of a JPEG file."""
    return _encoded(sheet, "JPEG", quality=90)


def to_png(sheet: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    return _encoded(sheet, "PNG")


def _encoded(sheet: Image.Image, kind: str, **options: int) -> bytes:
    data = BytesIO()
    sheet.save(data, kind, **options)
    return data.getvalue()


def _sheet(cells: Sequence[Cell], title: str, subtitle: str) -> Image.Image:
    columns = min(MOST_COLUMNS, max(3, _columns(len(cells))))
    sizes = [picture_size(cell.path) for cell in cells]
    shapes = [SIDE if size is None else fitted(size, SIDE)[1] for size in sizes]
    rows = [slice(i, i + columns) for i in range(0, len(cells), columns)]
    notes = max(len(fit_text(cell.note, _LETTERS, SIDE, 2)) if cell.path else 1 for cell in cells)
    under = (notes + 2) * line_height(_LETTERS) + 8
    heights = [max(shapes[row]) + under for row in rows]
    width = 2 * MARGIN + columns * SIDE + (columns - 1) * GAP
    paper = Paper(width, TOP + sum(heights) + GAP * (len(rows) - 1) + MARGIN)
    paper.text((MARGIN, MARGIN - 8), title, 22, width - 2 * MARGIN)
    paper.text((MARGIN, MARGIN + 20), subtitle, 14, width - 2 * MARGIN, fill=GREY)
    y = TOP
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(cells[row]):
            picture = read_picture(cell.path)  # one at a time: all of them may be more than the memory holds
            x = MARGIN + column * (SIDE + GAP)
            top = height - under
            if picture is None:
                paper.gap((x, y), (SIDE, top), cell.note)
            else:
                small = fitted(picture.size, SIDE)
                paper.picture(picture, (x + (SIDE - small[0]) // 2, y + top - small[1]), small)
                paper.text((x, y + top + 6), cell.note, _LETTERS, SIDE, fill=GREY, lines=notes)
            label_at = (x, y + top + 6 + notes * line_height(_LETTERS))
            paper.text(label_at, cell.label, _LETTERS, SIDE, lines=2)
        y += height + GAP
    return paper.image


def _columns(count: int) -> int:
    """So that a sheet is about as high as it is wide."""
    return round((count * 1.4) ** 0.5)
