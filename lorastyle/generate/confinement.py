"""Adapters that act in parts of the picture, while it is drawn."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lorastyle.bank import AdapterBank

from .drawing import Grid


@dataclass(frozen=True, eq=False)
class Confinement:
    """Where which adapters act.

    Attributes:
        fields: {adapter: (height, width) in 0..1}.
        readings: for each of them, the prompt embeddings that its part sees, in the batch of the UNet.
    """

    bank: AdapterBank
    fields: Mapping[str, Tensor]
    readings: Sequence[Tensor]

    @property
    def _inside(self) -> Tensor:
        """(height, width): how much of each pixel belongs to some adapter."""
        return torch.stack(list(self.fields.values())).sum(0).clamp(max=1)

    @property
    def everywhere(self) -> bool:
        """Whether every pixel belongs to some adapter, but for what a byte cannot tell."""
        return bool(self._inside.min() > 1 - 2 / 255)

    def lifted(self) -> AbstractContextManager[None]:
        """The UNet without these adapters."""
        return self.bank.scaled({name: {"unet": 0.0} for name in self.fields})

    @contextmanager
    def within(self, grid: Grid) -> Generator[Tensor]:
        """Confine them while latents of this grid are drawn. Yields (1, 1, h, w), 1 where one of them is."""
        inside = F.adaptive_avg_pool2d(self._inside[None, None], grid)
        with self.bank.confined(self.fields, self.readings, grid):
            yield inside
