"""Tensors that say how another tensor is to be scaled: `x.weight` in 8 bits, and `x.scale_weight` beside it.

`scale_weight` and `scale_input` are ComfyUI's (`comfy/ops.py`), `weight_scale` and `input_scale` those of its
later files and of most programs for language models, `weight_scale_inv` DeepSeek's (which multiplies, too, in
blocks of 128 x 128), `SCB` that of bitsandbytes (int8, by rows, over 127). Scales of inputs and outputs
belong to a way of computing, not to the weights.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["scale", "rows", "zero", "unread"]
_ENDS: tuple[tuple[str, Kind], ...] = (
    *((end, "scale") for end in ("scale_weight", "weight_scale", "weight_scale_inv", "scale", "fp8_scale")),
    ("SCB", "rows"),
    *((end, "zero") for end in ("weight_zero_point", "zero_point")),
    *((end, "unread") for end in ("absmax", "quant_map", "nested_absmax", "nested_quant_map")),
    *((end, "unread") for end in ("weight_scale_2", "qzeros", "g_idx")),
)
_LOOSE = ("scale_weight", "weight_scale", "weight_scale_inv")
_NOT_OF_WEIGHTS = (
    "scale_input",
    "input_scale",
    "scale_output",
    "output_scale",
    "comfy_quant",
    "weight_format",
)
_MARK = "scaled_fp8"
_ANY = (*(end for end, _ in _ENDS), *_NOT_OF_WEIGHTS, _MARK)


@dataclass(frozen=True)
class Quantised:
    """What the tensors of a file say of each other.

    Attributes:
        beside: {tensor: {kind: the one that it is multiplied by; that its rows are, over 127; that is
            subtracted first; or that shows it to be stored in a way that is not read}}.
        loose: {scale: module}, of scales that name a module and not which of its tensors.
        keys: all of these tensors, and those about inputs: they belong to no module of their own.
    """

    beside: dict[str, dict[Kind, str]] = field(default_factory=dict[str, dict[Kind, str]])
    loose: dict[str, str] = field(default_factory=dict[str, str])
    keys: set[str] = field(default_factory=set[str])


def find_quantised(names: Collection[str]) -> Quantised:
    """Which of a file's tensors scale which others.

    Args:
        names: all keys of the file; `in` should be fast.
    """
    found = Quantised()
    for name in names:
        if not name.endswith(_ANY):
            continue
        owner = _owner(name, names)
        stem, _, end = name.rpartition(".")
        if owner is not None:
            found.beside.setdefault(owner[0], {})[owner[1]] = name
        elif end in _LOOSE and stem:
            found.loose[name] = stem
        elif end not in _NOT_OF_WEIGHTS and end != _MARK:
            continue
        found.keys.add(name)
    return found


def _owner(name: str, names: Collection[str]) -> tuple[str, Kind] | None:
    """The tensor that `name` is about, and what it says of it: of `a.lora_down.scale_weight`,
    `a.lora_down.weight_scale` and `a.lora_down.weight.scale` it is `a.lora_down.weight`.
    """
    for end, kind in _ENDS:
        if not name.endswith(end):
            continue
        stem = name[: -len(end)]
        if stem[-1:] not in (".", "_"):
            continue
        bare = stem.rstrip("._")
        owners = (f"{bare}.weight", bare) if stem.endswith(".") else (bare,)
        for owner in owners:
            if owner and owner in names:
                return owner, kind
    return None
