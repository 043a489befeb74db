"""Columns of plain text, as wide as they need; on a terminal never wider than that."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

_GAP = 2
_LEAST = 10  # what a column is cut to at most
_LONGEST = 60  # of any cell but the first: a stranger's trigger word may have a million letters


def room() -> int | None:
    """Columns of the terminal; None where the output goes elsewhere and nothing may be cut."""
    return shutil.get_terminal_size().columns if _terminal() else None


def _terminal() -> bool:
    return sys.stdout.isatty()


def columns(
    heading: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None, right: Sequence[str] = ()
) -> list[str]:
    """One line a row, the heading first. A rich table of thousands of rows would take seconds.

    Args:
        width: of a line at most.
        right: the headings of columns that are flush right.
    """
    table = [(printable(row[0]), *map(_bounded, row[1:])) for row in (heading, *rows)]
    widths = _fitted([max(map(_width, column)) for column in zip(*table, strict=True)], width)
    flush = [name in right for name in heading]
    return [
        (" " * _GAP)
        .join(_cell(cell, size, end) for cell, size, end in zip(row, widths, flush, strict=False))
        .rstrip()
        for row in table
    ]


def printable(text: str) -> str:
    """Names and triggers come from strangers, and a terminal obeys control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _bounded(text: str) -> str:
    text = printable(text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _fitted(widths: list[int], most: int | None) -> list[int]:
    """The first column is cut to half the line at most, then the widest others, then the last is left out."""
    if most is None:
        return widths
    first, *others = min(widths[0], max(_LEAST, most // 2)), *widths[1:]
    while others and (over := first + sum(others) + _GAP * len(others) - most) > 0:
        widest = max(range(len(others)), key=lambda i: others[i])
        if others[widest] > _LEAST:
            others[widest] -= min(over, 1 if others.count(others[widest]) > 1 else others[widest] - _LEAST)
        else:
            others.pop()
    return [first if others else min(widths[0], most), *others]


def _cell(text: str, width: int, right: bool) -> str:
    size = _width(text)
    if size > width:
        return set_cell_size(text, width - 3) + "..."
    padding = " " * (width - size)
    return padding + text if right else text + padding


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)
