"""DoRA: an update that keeps the direction it makes, and learns the lengths apart.

    W' = m * (W + D) / ||W + D||        (Liu et al. 2024, arXiv:2402.09353)

D is the update inside, scale included. The lengths m belong to the rows (peft, and LyCORIS by now) or to the
columns (older files of LyCORIS): the magnitude's shape says which. Programs disagree about what a strength
other than 1 means; here it interpolates the weight, as for every update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..lowrank import LowRank
from .update import Update, same_weight


@dataclass(frozen=True, eq=False, kw_only=True)
class DoRA(Update):
    """DoRA around a low-rank update, or around another.

    Attributes:
        inside: D.
        magnitude: m, (out,) or (in,).
        axis: 0 where m belongs to the rows, 1 for the columns.
    """

    inside: LowRank | Update
    magnitude: Tensor
    axis: int

    @property
    def algorithm(self) -> str:
        return "DoRA" if isinstance(self.inside, LowRank) else f"DoRA of {self.inside.algorithm}"

    @property
    def reads_weight(self) -> bool:
        return True

    @property
    def shape(self) -> tuple[int, ...] | None:
        return self.inside.shape

    def fits(self, shape: tuple[int, ...]) -> bool:
        if len(shape) < 2 or self.magnitude.numel() != shape[self.axis]:
            return False
        if isinstance(self.inside, LowRank):
            return same_weight(self.inside.shape, shape)
        return self.inside.fits(shape)

    def delta(self, weight: Tensor) -> Tensor:
        original = weight.float()
        turned = original + dense(self.inside, weight)
        others = tuple(axis for axis in range(weight.ndim) if axis != self.axis)
        length = torch.linalg.vector_norm(turned, dim=others, keepdim=True) + torch.finfo(torch.float32).eps
        return turned * (self.magnitude.to(weight.device).float().reshape(length.shape) / length) - original

    def factors(self) -> Mapping[str, Tensor]:
        if isinstance(self.inside, LowRank):
            factors: dict[str, Tensor] = {
                "lora_down.weight": self.inside.down,
                "lora_up.weight": self.inside.up,
                "alpha": torch.tensor(self.inside.alpha),
            }
            dimensions = self.inside.down.ndim
        else:
            factors = dict(self.inside.factors())
            dimensions = 2
        shape = [1] * dimensions
        shape[self.axis] = -1
        return {**factors, "dora_scale": self.magnitude.reshape(shape)}


def dense(update: LowRank | Update, weight: Tensor) -> Tensor:
    """What an update of either kind adds to this weight, in float32 and in its shape; zeros for nothing."""
    if isinstance(update, LowRank):
        moved = LowRank(update.down.to(weight.device), update.up.to(weight.device), update.alpha)
        return moved.delta().reshape(weight.shape)
    delta = update.delta(weight)
    return torch.zeros_like(weight, dtype=torch.float32) if delta is None else delta
