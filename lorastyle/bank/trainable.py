"""The factors of an adapter that is being trained, at one module."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lorastyle.adapters import LowRank


class Trainable(nn.Module):
    """The factors of the adapter being trained: float32 through every move of the model to another dtype.

    `down` starts uniform in +-1/sqrt(fan_in), which is kaiming_uniform with a = sqrt(5) as in the LoRA
    reference (Hu et al. 2021, microsoft/LoRA), drawn on the CPU; `up` starts at zero.

    Args:
        down_shape: (rank, in) or (rank, in, height, width).
        up_shape: (out, rank) or (out, rank, 1, 1).
        scale: alpha / rank, or alpha / sqrt(rank) for rsLoRA.
        dropout: probability of dropping an input of `down`, in training mode only.
    """

    gate: Tensor

    def __init__(
        self,
        down_shape: tuple[int, ...],
        up_shape: tuple[int, ...],
        *,
        scale: float,
        dropout: float,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(math.prod(down_shape[1:]))
        down = torch.empty(down_shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
        self.down = nn.Parameter(down.to(device))
        self.up = nn.Parameter(torch.zeros(up_shape, dtype=torch.float32, device=device))
        self.scale = scale
        self.dropout = dropout
        self.register_buffer("gate", torch.ones(down_shape[0], device=device), persistent=False)

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def low_rank(self) -> LowRank:
        """The factors as they are now, without a copy. alpha is such that alpha / rank is the scale."""
        return LowRank(self.down.detach(), self.up.detach(), self.scale * self.rank)

    def copy(self) -> LowRank:
        """`low_rank()` as a copy on the CPU, which further steps do not change."""
        now = self.low_rank()
        return LowRank(now.down.to("cpu", copy=True), now.up.to("cpu", copy=True), now.alpha)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Trainable:
        # Follows the model to another device but never to another dtype, and the Parameters stay the same
        # objects, so an optimiser made before the move still holds the right ones.
        for tensor in (self.down, self.up, self.gate):
            device = fn(tensor.detach()[:0]).device
            tensor.data = tensor.data.to(device)
            if tensor.grad is not None:
                tensor.grad = tensor.grad.to(device)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the model's state dict holds the base only."""
