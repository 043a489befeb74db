"""`lorastyle merge`: many adapters in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from .console import Steps, file_size, note, say
from .names import Whole
from .remarks import counted
from .resize import parse_bytes, span
from .stack import base_of, typed_parts

if TYPE_CHECKING:
    from lorastyle.adapters import RankCut

_SHOWN = 3


def merge(
    *adapters: str,
    out: Annotated[Path, Parameter(("--out", "-o"))],
    method: str | None = None,
    rank: Whole | None = None,
    energy: float | None = None,
    max_size: str | None = None,
    density: float | None = None,
    seed: Whole = 0,
    block_weights: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    dtype: Literal["float16", "bfloat16", "float32"] | None = None,
    base: str | None = None,
    partial: Annotated[bool, Parameter(negative="")] = False,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
) -> None:
    """Make one adapter of several, each at its scale.

        lorastyle merge cat:0.8 ink:0.5 -o cat-ink.safetensors
        lorastyle merge cat ink:-0.3 -o cat-ink.safetensors --max-size 40MB
        lorastyle merge cat ink -o cat-ink.safetensors --method ties --rank 32 --density 0.3

    The file draws what the adapters draw together, and has kohya's names. Forms, ranks and alphas may differ.

    Args:
        adapters: NAME:SCALE as for generate -a: a file, or the name of one in the library; 1 is as trained.
        out: the file to write. It must not be there yet.
        method: concat (the exact sum; ranks add up), linear-on-delta (the exact sum in the fewest ranks), svd
            (the sum at a lower rank), or ties, dare, magnitude, which prune dense differences first and take
            minutes for SDXL. concat if left out, svd where a rank, an energy or a size is given.
        rank: at most so much in every module; the largest of the adapters if left out, but for concat.
        energy: the share of squared singular values that each module keeps, such as 0.99.
        max_size: at most so large a file, such as 40MB; each module gets the rank that helps most there.
        density: of ties, dare and magnitude: the share of numbers that each adapter keeps; 0.5 if left out.
        seed: of dare.
        block_weights: a factor for each block, "IN:0.5,MID:0,OUT03-OUT05:1.2" or a list of 12, 17, 20 or 26
            numbers; for one adapter "NAME=...".
        dtype: how numbers are stored; as in the adapters where nothing is said.
        base: what they were made for, where that is none of Stable Diffusion 1.x, 2.x and XL, or where DoRA,
            OFT or IA3, which depend on its weights, are to be pruned or cut.
        partial: go on where some of them cannot be read.
        every: tell the error of every module.
    """
    from lorastyle.adapters import MergeSettings, merge_files

    settings = MergeSettings(method, rank, energy, density=density, seed=seed)
    most_bytes = None if max_size is None else parse_bytes(max_size, "--max-size")
    parts = typed_parts(adapters, block_weights)
    stored = base_of([part.path for part in parts], base)
    with Steps() as steps:
        done = merge_files(
            parts,
            out,
            settings,
            most_bytes=most_bytes,
            dtype=dtype,
            modules=None if stored is None else stored.shapes,
            weights=None if stored is None else stored.weight,
            partial=partial,
            on_module=lambda n, of: steps.update("merging", n, of) if of > _SHOWN else None,
        )
    say(f"{done.path}: {file_size(done.bytes)}, {done.dtype}, by {done.merged.method}")
    tell_cuts(done.merged.modules, every)
    for algorithm, count in done.merged.whole.items():
        note(f"{count} modules of {algorithm} are in it as they are, without a rank.")


def tell_cuts(cuts: Sequence[RankCut], every: bool) -> None:
    """Ranks and errors, of each component and of the modules that lost most."""
    from lorastyle.adapters import cut_error

    for component in dict.fromkeys(cut.component for cut in cuts):
        own = [cut for cut in cuts if cut.component == component]
        say(
            f"{component}: {counted(len(own), 'module')}, rank {span(m.after for m in own)} of "
            f"{span(m.before for m in own)}, left out {cut_error(own):.1%} of the norm"
        )
    order = sorted(cuts, key=lambda cut: cut.error, reverse=True)
    for m in order if every else order[:_SHOWN]:
        if every or m.error >= 5e-4:
            say(f"  {m.error:6.1%}  rank {m.before} -> {m.after}  {m.component} {m.path}")
