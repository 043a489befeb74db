"""Numbers that are none, and updates that change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .lowrank import LowRank, is_finite
from .measure import Measure
from .updates import IA3, DoRA, Orthogonal, Update


@dataclass(frozen=True)
class BadTensor:
    """A tensor with numbers in it that are none, by its whole key; `module` is the model's, or a word."""

    key: str
    module: str
    nan: int
    infinite: int
    numbers: int


def bad_tensors(tensors: Mapping[str, Tensor], module: str) -> tuple[BadTensor, ...]:
    """Those of a module's tensors that hold NaN or infinity."""
    floating = {key: t.float() if t.element_size() == 1 else t for key, t in tensors.items()}
    return tuple(
        BadTensor(key, module, int(torch.isnan(t).sum()), int(torch.isinf(t).sum()), t.numel())
        for key, t in floating.items()
        if t.is_floating_point() and not is_finite(t)
    )


def cause_of_death(low_rank: LowRank | None, other: Update | None, measure: Measure | None) -> str:
    """Why the updates of a module change nothing; empty where they do, or where the base's weight decides."""
    if isinstance(other, DoRA) or (other is not None and other.bias is not None and bool(other.bias.any())):
        return ""
    if isinstance(other, Orthogonal) and not other.ready and other.rescale is None:
        return "" if bool(other.blocks.any()) else "its blocks are all zeros"
    if isinstance(other, IA3):
        return "" if bool(other.weight.any()) else "its factors are all zeros"
    if measure is None or measure.norm > 0:
        return ""
    if low_rank is None or other is not None:
        return "it is all zeros"
    for name in ("up", "down"):
        if not bool(getattr(low_rank, name).any()):
            return f"{name} is all zeros"
    return "alpha is 0" if low_rank.alpha == 0 else "up and down cancel out"
