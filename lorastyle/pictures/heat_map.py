"""A table of numbers from -1 to 1 as a picture: red above 0, blue below."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from .paper import GREY, INK, LINE, WHITE, Paper, line_height

_MARGIN, _TITLE, _LETTERS, _SMALL = 24, 18, 12, 11
_CELL = (46, 30)
_LABEL = 200  # pixels for the name of a row
_RED, _BLUE = (200, 48, 44), (44, 92, 200)
_DARK = 0.6  # from here on, numbers are white


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    note: str = "",
) -> Image.Image:
    """One cell for each row and column, coloured and numbered; an empty one for None.

    Args:
        note: a line or two under the cells.
    """
    wide, high = _CELL
    top = _MARGIN + line_height(_TITLE) + 10
    body = top + line_height(_LETTERS) + 6
    width = 2 * _MARGIN + max(_LABEL + wide * len(columns), 420)
    height = body + high * len(rows) + 10 + (2 * line_height(_SMALL) if note else 0) + _MARGIN
    paper = Paper(width, height)
    room = width - 2 * _MARGIN
    paper.text((_MARGIN, _MARGIN), title, _TITLE, room)
    left = _MARGIN + _LABEL
    for n, column in enumerate(columns):
        paper.text((left + n * wide, top), column, _LETTERS, wide - 2, fill=GREY, centred=True)
    for m, (row, numbers) in enumerate(zip(rows, values, strict=True)):
        y = body + m * high
        paper.text((_MARGIN, y + 8), row, _LETTERS, _LABEL - 10)
        for n, value in enumerate(numbers):
            x = left + n * wide
            paper.cell((x, y), (wide - 2, high - 2), LINE if value is None else colour(value))
            if value is not None:
                ink = WHITE if abs(value) > _DARK else INK
                text = f"{round(value, 2) + 0.0:.2f}"
                paper.text((x, y + 8), text, _SMALL, wide - 2, fill=ink, centred=True)
    if note:
        paper.text((_MARGIN, body + high * len(rows) + 8), note, _SMALL, room, fill=GREY, lines=2)
    return paper.image


def colour(value: float) -> str:
    """White at 0, red at 1, blue at -1."""
    strength = min(abs(value), 1.0)
    end = _RED if value > 0 else _BLUE
    return "#" + "".join(f"{round(255 + (part - 255) * strength):02x}" for part in end)
