"""Grids: every value of one setting against every value of another, with labels. The cells are a batch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from lorastyle.errors import ConfigError, shortened
from lorastyle.pictures import GREY, Paper, line_height

from .entries import Entry, make_entry
from .keys import ONE_ADAPTER, adapter_list, is_key, takes_ranges, unknown
from .manifest import Manifest
from .places import Misplaced, Place
from .ranges import is_range, number_or_text, range_values
from .sheet import Cell, fitted, picture_size, read_picture

MOST_CELLS = 2_500
MARGIN, GAP, TITLE = 32, 8, 72
_LETTERS = 16
_MOST_PIXELS = 12_000  # of a side of the sheet; cells are shrunk where it would be longer
_SMALLEST, _LARGEST = 96, 512  # pixels of a cell's longer side
_PROMPTS = ("prompt", "negative", "negative_prompt")


@dataclass(frozen=True)
class GridAxis:
    """A setting and its values, left to right or top to bottom.

    Attributes:
        key: as in a manifest: seed, guidance, adapters.cat.
        values: as in a manifest.
        labels: what stands beside them.
    """

    key: str
    values: tuple[object, ...]
    labels: tuple[str, ...]


def parse_axis(text: str, adapters: Sequence[str] = ()) -> GridAxis:
    """`seed=1:4`, `cat=0:1:0.25`, `scheduler=ddim,euler`, `prompt=a cat|a dog, sleeping`.

    Values are separated by `|`, or by commas where there is no `|` (in prompts, commas are letters); a range
    stands for its values. The key is one of a manifest's, the name of an adapter (its scale), or `scale`
    where there is one adapter.

    Args:
        text: the axis.
        adapters: the names of those in use.

    Raises:
        ConfigError: no key, no values, or a range that is none.
    """
    key, found, rest = text.partition("=")
    key = key.strip()
    stems = {name: re.split(r"[/\\]", name)[-1].removesuffix(".safetensors") for name in adapters}
    named = next((name for name, stem in stems.items() if key in (name, stem)), None)
    if named is not None and not is_key(key):
        key = ONE_ADAPTER + named
    elif key == "scale":
        if len(adapters) != 1:
            hint = f"write the name of one: {', '.join(stems.values())}" if adapters else "give one with -a"
            raise ConfigError(f"an axis of scale needs one adapter, here are {len(adapters)}; {hint}.")
        key = ONE_ADAPTER + adapters[0]
    if not found or not is_key(key) or key == "name":
        hint = f" {unknown(key)} Or give an adapter of that name with -a." if found and key else ""
        raise ConfigError(f"the axis {shortened(text)} is none; write KEY=VALUES, such as seed=1:4.{hint}")
    written = rest.split("|" if "|" in rest or key in _PROMPTS else ",")
    values: list[object] = []
    for part in (part.strip() for part in written):
        if takes_ranges(key) and is_range(part):
            values += range_values(part)
        elif part or len(written) > 1:
            values.append(number_or_text(part) if takes_ranges(key) else part)
    if not values:
        raise ConfigError(f"the axis {shortened(text)} has no values; write KEY=VALUES, such as seed=1:4.")
    head = stems.get(key.removeprefix(ONE_ADAPTER), key.removeprefix(ONE_ADAPTER))
    labels = tuple(_label(head, value) for value in values)
    return GridAxis(key, tuple(values), labels)


def grid_manifest(settings: Mapping[str, object], x: GridAxis, y: GridAxis | None) -> Manifest:
    """The cells as a manifest, row by row.

    Raises:
        ConfigError: both axes say the same, or there are far too many cells.
    """
    axes = [axis for axis in (y, x) if axis is not None]
    if y is not None and x.key == y.key:
        raise ConfigError(f"both axes are {x.key}. Choose another for one of them.")
    cells = len(x.values) * (len(y.values) if y else 1)
    if cells > MOST_CELLS:
        raise ConfigError(f"a grid of {cells:,} cells; at most {MOST_CELLS:,} are allowed.")

    def find(path: tuple[str | int, ...]) -> Place:
        return Place(1, 1)

    values = {key: value for key, value in settings.items() if key not in {axis.key for axis in axes}}
    try:
        matrix: dict[str, object] = {axis.key: list(axis.values) for axis in axes}
        entry: Entry = make_entry({"matrix": matrix}, find, defaults=values)
    except Misplaced as error:
        raise ConfigError(error.problem.what) from error
    return Manifest((entry,))


def draw_grid(
    cells: Sequence[Cell], columns: Sequence[str], rows: Sequence[str], title: str, subtitle: str
) -> Image.Image:
    """The sheet.

    Args:
        cells: row by row; `note` is drawn where there is no picture.
        columns, rows: labels; rows may be empty for a grid of one row.
    """
    own = [size for cell in cells if (size := picture_size(cell.path)) is not None]
    side = _side(own, len(columns), max(1, len(rows)))
    sizes = [fitted(size, side) for size in own] or [(side, side)]
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    left = min(220, max(90, width)) if rows else 0
    head = 2 * line_height(_LETTERS) + 8
    across = left + len(columns) * width + (len(columns) - 1) * GAP
    down = head + max(1, len(rows)) * (height + GAP)
    paper = Paper(max(across, 360) + 2 * MARGIN, TITLE + down + MARGIN)
    room = paper.image.width - 2 * MARGIN
    paper.text((MARGIN, MARGIN - 8), title, 22, room)
    paper.text((MARGIN, MARGIN + 20), subtitle, 14, room, fill=GREY)
    for i, label in enumerate(columns):
        at = MARGIN + left + i * (width + GAP), TITLE + 4
        paper.text(at, label, _LETTERS, width, lines=2, centred=True)
    for j, label in enumerate(rows):
        middle = TITLE + head + j * (height + GAP) + height / 2 - line_height(_LETTERS) * 1.5
        paper.text((MARGIN, max(middle, TITLE)), label, _LETTERS, left - 12, lines=4)
    for i, cell in enumerate(cells):
        picture = read_picture(cell.path)  # one at a time: all of them may be more than the memory holds
        row, column = divmod(i, len(columns))
        x, y = MARGIN + left + column * (width + GAP), TITLE + head + row * (height + GAP)
        if picture is None:
            paper.gap((x, y), (width, height), cell.note, 4)
        else:
            size = fitted(picture.size, side)
            paper.picture(picture, (x + (width - size[0]) // 2, y + (height - size[1]) // 2), size, 4)
    return paper.image


def _side(sizes: Sequence[tuple[int, int]], columns: int, rows: int) -> int:
    """Pixels of a cell's longer side: the pictures' own, as far as the sheet allows."""
    own = max((max(size) for size in sizes), default=_LARGEST)
    most = _MOST_PIXELS // max(columns, rows) - GAP
    return min(max(own, _SMALLEST), _LARGEST, max(most, 16))


def _label(key: str, value: object) -> str:
    if key == "adapters":
        uses = adapter_list(value)
        return " + ".join(str(use) for use in uses) if uses else "no adapter"
    if isinstance(value, str):
        return value or "(none)"
    return f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
