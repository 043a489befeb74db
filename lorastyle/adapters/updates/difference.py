"""A weight's or a bias's difference, number by number: what full training leaves, and norm layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .update import Update, same_weight


@dataclass(frozen=True, eq=False, kw_only=True)
class Difference(Update):
    """`weight` is added to the weight, in whatever shape of as many numbers; None adds to the bias only."""

    weight: Tensor | None = None

    @property
    def algorithm(self) -> str:
        if self.weight is None:
            return "bias"
        return "norm" if self.weight.ndim == 1 else "full difference"

    @property
    def shape(self) -> tuple[int, ...] | None:
        return None if self.weight is None else tuple(self.weight.shape)

    def fits(self, shape: tuple[int, ...]) -> bool:
        return self.weight is None or same_weight(tuple(self.weight.shape), shape)

    def delta(self, weight: Tensor) -> Tensor | None:
        return None if self.weight is None else self.weight.to(weight.device).float().reshape(weight.shape)

    def factors(self) -> Mapping[str, Tensor]:
        if self.weight is None:
            return {}
        return {"w_norm" if self.weight.ndim == 1 else "diff": self.weight}
