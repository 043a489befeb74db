"""`lorastyle interference`: do adapters that are used together get in each other's way?"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lorastyle.errors import ConfigError

from .columns import columns, room
from .console import say
from .names import near
from .stack import base_of, typed_parts

if TYPE_CHECKING:
    from lorastyle.adapters import Interference

_MOST_PAIRS = 6  # columns of the table; of more, the nearest pair of each block is told
_MOST_IN_BLOCKS = 10  # adapters whose pairs are drawn block by block; of more, all with all


def interference(
    *adapters: str,
    balance: Annotated[bool, Parameter(negative="")] = False,
    heat_map: Path | None = None,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
    block_weights: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    base: str | None = None,
    partial: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Say how much adapters have in common, block by block, and how strong they are together.

        lorastyle interference cat:0.8 ink sticker:0.5 --heat-map together.png
        lorastyle generate "a cat" $(lorastyle interference cat ink --balance)

    cosine: of the angle between two updates; 1 the same, 0 nothing in common, -1 opposite. together: the
    norm of the sum at these scales, over that of the strongest adapter alone at 1; well above 1, pictures
    overcook.

    Args:
        adapters: NAME:SCALE as for generate -a, two or more.
        balance: print only flags with scales at which the sum weighs as much as the strongest adapter alone.
        heat_map: a .png to draw the cosines into, each pair and block.
        as_json: print JSON.
        block_weights: a factor for each block, as for merge.
        base: what they were made for, where that is none of Stable Diffusion 1.x, 2.x and XL.
        partial: go on where some of them cannot be read.
    """
    if heat_map is not None and heat_map.suffix.lower() != ".png":
        raise ConfigError(f"--heat-map {heat_map}: name a .png file.")
    from lorastyle.adapters import measure_interference, read_weighted

    files = typed_parts(adapters, block_weights)
    stored = base_of([file.path for file in files], base)
    modules, weights = (None, None) if stored is None else (stored.shapes, stored.weight)
    parts = read_weighted(files, modules, partial=partial)
    found = measure_interference(parts, modules=modules, weights=weights)
    if heat_map is not None:
        _draw(found, heat_map)
    if balance:
        print(*(f"-a {quote(flag)}" for flag in _flags(adapters, found.balance())))
    elif as_json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        _tell(found)
        if heat_map is not None:
            say(near(heat_map.absolute()))


def _flags(adapters: Sequence[str], factor: float) -> list[str]:
    """What was typed, with all scales times a factor."""
    from lorastyle.generate import AdapterUse

    def times(scale: float | None) -> float | None:
        return None if scale is None else float(f"{factor * scale:.3g}")

    uses = [AdapterUse.parse(text) for text in adapters]
    return [
        str(replace(use, scale=times(use.scale) or 0.0, te=times(use.te), unet=times(use.unet)))
        for use in uses
    ]


def _tell(found: Interference) -> None:
    count = range(len(found.names))
    say("cosine of the updates")
    rows = [(name, *(_number(found.cosine(i, j)) for j in count)) for i, name in enumerate(found.names)]
    for line in columns(("", *found.names), rows, width=room(), right=found.names):
        say(line)
    say()
    pairs = list(itertools.combinations(count, 2))
    few = len(pairs) <= _MOST_PAIRS
    heads = tuple(f"{found.names[i]} + {found.names[j]}" for i, j in pairs) if few else ("nearest pair",)
    table: list[tuple[str, ...]] = []
    for block in (*found.blocks, None):
        cosines = [(found.cosine(i, j, block), i, j) for i, j in pairs]
        told = [_number(value) for value, _, _ in cosines]
        if not few:
            value, i, j = max(cosines, key=lambda c: -2.0 if c[0] is None else abs(c[0]))
            told = [f"{_number(value)} {found.names[i]} + {found.names[j]}"]
        table.append((block or "all", *told, f"{found.overcooking(block):.2f}"))
    for line in columns(("block", *heads, "together"), table, width=room(), right=(*heads, "together")):
        say(line)
    say()
    say(
        f"together: {found.overcooking():.2f} times the strongest of them alone at a scale of 1 "
        "(norm of the sum, Frobenius)"
    )
    if found.overcooking() >= 1e-6:
        balanced = found.balanced()
        scales = [balanced.scales_of(i) for i in count]
        tags = [f"{s['scale']:.3g}" + (f":te={s['te']:.3g}" if "te" in s else "") for s in scales]
        say(f"balanced to 1: {', '.join(map(':'.join, zip(found.names, tags, strict=True)))}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"


def _draw(found: Interference, file: Path) -> None:
    from io import BytesIO

    from lorastyle.adapters import atomic_write
    from lorastyle.pictures import heat_map

    count = range(len(found.names))
    note = "Cosine of updates: 1 the same, 0 nothing in common, -1 opposite; grey where one changes nothing."
    if len(found.names) <= _MOST_IN_BLOCKS:
        pairs = list(itertools.combinations(count, 2))
        rows = [f"{found.names[i]} + {found.names[j]}" for i, j in pairs]
        heads = ["all", *found.blocks]
        values = [[found.cosine(i, j, block) for block in (None, *found.blocks)] for i, j in pairs]
    else:
        rows = heads = list(found.names)
        values = [[found.cosine(i, j) for j in count] for i in count]
    buffer = BytesIO()
    heat_map("What the adapters have in common", rows, heads, values, note=note).save(buffer, "PNG")
    try:
        atomic_write(file, buffer.getvalue())
    except OSError as error:
        raise ConfigError(f"--heat-map {file}: cannot be written ({error.strerror or error}).") from error
