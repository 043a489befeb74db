"""`lorastyle fuse`: a whole base with adapters in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .console import Steps, file_size, note, say
from .stack import typed_parts


def fuse(
    *,
    adapter: Annotated[tuple[str, ...], Parameter(("--adapter", "-a"), negative="")] = (),
    base: str | None = None,
    out: Annotated[Path, Parameter(("--out", "-o"))],
    block_weights: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    partial: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write a whole base with adapters added to its weights, for programs that know no adapters.

        lorastyle fuse -a cat:0.8 -a ink:0.5 --base model.safetensors -o cat-ink-model.safetensors

    A folder becomes a folder, one checkpoint a checkpoint or a folder as --out says; number types stay. To
    draw here, keep base and adapters apart: that is as fast, and the scales stay yours.

    Args:
        adapter: NAME:SCALE as for generate. Repeat to stack.
        base: a checkpoint file, a folder, a Hub id or "embedded"; the one that is used where none is named.
        out: the folder, or the .safetensors file, to write. It must not be there yet.
        block_weights: a factor for each block, as for merge.
        partial: go on where some of an adapter cannot be read.
    """
    from lorastyle.bases import default_base, fuse_base

    parts = typed_parts(adapter, block_weights)
    with Steps() as steps:
        done = fuse_base(
            base or default_base(),
            parts,
            out,
            partial=partial,
            on_module=lambda n, of: steps.update("fusing", n, of) if of > 3 else None,
        )
    say(f"{done.path}: {file_size(done.bytes)}, {done.modules} layers changed")
    if done.rounding >= 1e-4:
        say(f"rounding to the base's number type took {done.rounding:.1%} of the change")
    if done.words:
        note(
            f"The words {', '.join(done.words)} of the adapters are not in it: no base has a place for them."
        )
