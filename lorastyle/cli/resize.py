"""`lorastyle resize`: a smaller adapter, with the error that it costs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lorastyle.errors import ConfigError

from .console import file_size, note, say
from .modules import modules_for
from .names import Whole

if TYPE_CHECKING:
    from lorastyle.adapters import Resized

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def resize(
    source: Path,
    out: Path,
    /,
    *,
    rank: Whole | None = None,
    energy: float | None = None,
    size: str | None = None,
    dtype: Literal["float16", "bfloat16", "float32"] | None = None,
    base: str | None = None,
    partial: Annotated[bool, Parameter(negative="")] = False,
    private: Annotated[bool, Parameter(name="--keep-private", negative="")] = False,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
) -> None:
    """Make an adapter file smaller: the nearest update at a lower rank, for each module.

    Say one of --rank, --energy and --size. Whatever it was, the file has kohya's names.

    Args:
        source: a .safetensors file, or a peft folder.
        out: what to write. It must not be there yet.
        rank: at most so much in every module.
        energy: the share of squared singular values that each module keeps, such as 0.99.
        size: at most so large a file, such as 40MB; each module gets the rank that helps most there.
        dtype: how numbers are stored; as in the source where nothing is said.
        base: what it was made for, where the file is for none of Stable Diffusion 1.x, 2.x and XL.
        partial: go on where some of it is not low rank (LoKr, DoRA, ...), and leave that as it is.
        private: keep captions, folder names and paths, which are left out otherwise.
        every: tell the error of every module.
    """
    from lorastyle.adapters import resize_adapter

    done = resize_adapter(
        source,
        out,
        rank=rank,
        energy=energy,
        most_bytes=None if size is None else parse_bytes(size),
        dtype=dtype,
        modules=modules_for(source, base),
        partial=partial,
        private=private,
    )
    resized = done.resized
    say(
        f"{done.path}: {file_size(done.bytes_after)} of {file_size(done.bytes_before)}, {done.dtype}, "
        f"rank {span(m.after for m in resized.modules)} of {span(m.before for m in resized.modules)}"
    )
    for algorithm, count in resized.left_whole.items():
        note(f"{count} modules of {algorithm} are not low rank and stay as they were.")
    _tell(resized, every)


def _tell(resized: Resized, every: bool) -> None:
    say(f"left out, of the norm of all updates: {resized.error:.1%}")
    order = sorted(resized.modules, key=lambda m: m.error, reverse=True)
    for m in order if every else order[:3]:
        if every or m.error:
            say(f"  {m.error:6.1%}  rank {m.before} -> {m.after}  {m.component} {m.path}")
    if not every and len(order) > 3 and order[3].error:
        say(f"  --all tells the other {len(order) - 3}")


def span(ranks: Iterable[int]) -> str:
    """`4`, or `2 to 8`."""
    found = set(ranks)
    low, high = min(found), max(found)
    return f"{low}" if low == high else f"{low} to {high}"


def parse_bytes(text: str, flag: str = "--size") -> int:
    """`40MB`, `1.5 GB`, `500k`, `40MiB` -> bytes. Raises ConfigError, which names the flag."""
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*([kmg]?i?)b?", text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise ConfigError(f'{flag} is "{text}"; write a number and its unit, such as 40MB.')
    return int(float(found[1]) * _UNITS[found[2]])
