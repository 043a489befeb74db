"""Adapters that act in parts of the picture, while it is drawn."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from lorastyle.bank import AdapterBank

from .drawing import Grid

# Of a word's map, from 0 where it is seen least to 1 where most: below the first an adapter does not act,
# from the second on wholly. 0.4, between them, is what Tang et al. 2022 (arXiv:2210.04885) cut at.
LOW, HIGH = 0.3, 0.5


@dataclass(frozen=True, eq=False)
class Confinement:
    """Where which adapters act.

    Attributes:
        fields: {adapter: (height, width) in 0..1}.
        readings: for each of them, and then for each of the claims, the prompt embeddings that its part sees,
            in the batch of the UNet.
        claims: {adapter: (tokens,)}, 1 at those of the prompt's that claim it; their fields are not known
            before the picture was drawn without them.
    """

    bank: AdapterBank
    fields: Mapping[str, Tensor]
    readings: Sequence[Tensor]
    claims: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def _inside(self) -> Tensor:
        """(height, width): how much of each pixel belongs to some adapter."""
        return torch.stack(list(self.fields.values())).sum(0).clamp(max=1)

    @property
    def everywhere(self) -> bool:
        """Whether every pixel belongs to some adapter, but for what a byte cannot tell."""
        return not self.claims and bool(self._inside.min() > 1 - 2 / 255)

    def lifted(self) -> AbstractContextManager[None]:
        """The UNet without these adapters."""
        return self.bank.scaled({name: {"unet": 0.0} for name in (*self.fields, *self.claims)})

    def claimed(self, maps: Mapping[str, Tensor]) -> Confinement:
        """With a field for each of the claims.

        Args:
            maps: {adapter: (height, width)}, how its words were seen; see `AttentionMaps.maps`.
        """
        found = fields_of(maps) if maps else {}
        if self.fields:  # masks keep every pixel that they have
            size = tuple(next(iter(self.fields.values())).shape)
            found = {name: F.interpolate(f[None, None], size)[0, 0] for name, f in found.items()}
        return replace(self, fields={**self.fields, **found}, claims={})

    @contextmanager
    def within(self, grid: Grid) -> Generator[Tensor]:
        """Confine them while latents of this grid are drawn. Yields (1, 1, h, w), 1 where one of them is."""
        inside = F.adaptive_avg_pool2d(self._inside[None, None], grid)
        with self.bank.confined(self.fields, self.readings, grid):
            yield inside


def fields_of(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Where claimed adapters act, (height, width) in 0..1, by how their words are seen.

    Args:
        maps: see `AttentionMaps.maps`. Where several are seen, they share the place.
    """
    fields = {name: ((seen - LOW) / (HIGH - LOW)).clamp(0, 1) for name, seen in maps.items()}
    total = torch.stack(list(fields.values())).sum(0).clamp(min=1)
    return {name: field / total for name, field in fields.items()}
