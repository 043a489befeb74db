"""`lorastyle extract`: the difference of two models as an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from .console import Steps, file_size, note, say
from .merge import tell_cuts
from .names import Whole
from .resize import parse_bytes


def extract(
    *,
    tuned: str,
    base: str,
    out: Annotated[Path, Parameter(("--out", "-o"))],
    rank: Whole | None = None,
    energy: float | None = None,
    max_size: str | None = None,
    targets: Annotated[tuple[str, ...], Parameter(negative="")] = ("all",),
    dtype: Literal["float16", "bfloat16", "float32"] = "float16",
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
) -> None:
    """Make an adapter of what a tuned model changed: on the base it does what the tuned model does.

        lorastyle extract --tuned dreamy.safetensors --base sd15.safetensors -o lora.safetensors

    Each layer's difference is brought to a rank by singular value decomposition, text encoders included, and
    the error is told. Both models are read layer by layer, so a small machine will do.

    Args:
        tuned: a checkpoint file, a folder, or a Hub id.
        base: what it was tuned from, likewise.
        out: the file to write. It must not be there yet.
        rank: at most so much in every layer; 32 where neither energy nor a size is given.
        energy: the share of squared singular values that each layer keeps, such as 0.9; slow.
        max_size: at most so large a file, such as 40MB; each layer gets the rank that helps most there.
        targets: attention, attention+ff or all (with convolutions), or names of layers; all if left out.
        dtype: how numbers are stored.
        every: tell the error of every layer.
    """
    from lorastyle.adapters import Limit
    from lorastyle.bases import extract_adapter

    limit = Limit(rank, energy)
    with Steps() as steps:
        done = extract_adapter(
            tuned,
            base,
            out,
            limit or None,
            targets=targets,
            most_bytes=None if max_size is None else parse_bytes(max_size, "--max-size"),
            dtype=dtype,
            on_module=lambda n, of: steps.update("extracting", n, of) if of > 3 else None,
        )
    say(f"{done.path}: {file_size(done.bytes)}, {done.dtype}")
    tell_cuts(done.extracted.modules, every)
    if done.alike:
        say(f"{done.alike} layers are the same in both models")
    if done.left_out:
        note(f"{done.left_out} other tensors differ and are not in it: norm layers, biases, other layers.")
    if done.other_size:
        note(f"{len(done.other_size)} tensors have another size in the other model: {done.other_size[0]}.")
