"""IA3: each row or column of the weight a little longer or shorter.

    W' = W * (1 + w), w along the outputs or along the inputs        (Liu et al. 2022, arXiv:2205.05638)

Source of the file's form: `lycoris/modules/ia3.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .update import Update


@dataclass(frozen=True, eq=False, kw_only=True)
class IA3(Update):
    """Factors `weight` for the outputs (out,), or for the inputs (in,) where `on_input` says so."""

    weight: Tensor
    on_input: bool

    @property
    def algorithm(self) -> str:
        return "IA3"

    @property
    def reads_weight(self) -> bool:
        return True

    def fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) >= 2 and self.weight.numel() == shape[int(self.on_input)]

    def delta(self, weight: Tensor) -> Tensor:
        along = [1] * weight.ndim
        along[int(self.on_input)] = -1
        return weight.float() * self.weight.to(weight.device).float().reshape(along)

    def factors(self) -> Mapping[str, Tensor]:
        return {"weight": self.weight, "on_input": torch.tensor(int(self.on_input))}
