"""Adapters confined to parts of the picture: what their gates are multiplied by, place by place.

A layer's rows stand for places of the picture, for words, or for the picture as a whole:

- **places** (convolutions, self-attention, queries, feed-forward): the adapter's field on the layer's grid.
- **words** (keys and values of cross-attention): these are computed once without the confined adapters and
  once for each of them, in copies that `reading_apart` lays side by side in the batch; a copy has its own.
- **the whole** (what reads the timestep): there is no place to confine it to, so an adapter acts there only
  as much as it acts everywhere, which is its field's least value.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from lorastyle.errors import AdapterError

Rows = tuple[tuple[str, int], ...]
"""The residents of a stack: (adapter, rank), in stacking order."""


class Regions:
    """The fields of confined adapters, on whatever grid a layer asks for.

    Args:
        fields: {adapter: (height, width) in 0..1}, 1 where it acts, in any resolution of the picture's shape.
        grid: (height, width) of the latents.

    Raises:
        AdapterError: no field, or one that is not of two axes with numbers from 0 to 1.
    """

    def __init__(self, fields: Mapping[str, Tensor], grid: tuple[int, int]) -> None:
        self.names = tuple(fields)
        self.grid = grid
        self.set(fields)

    def set(self, fields: Mapping[str, Tensor]) -> None:
        """Other fields for the same adapters.

        Raises:
            AdapterError: as above, or other adapters.
        """
        if not fields or tuple(fields) != self.names:
            raise AdapterError(f"Fields for {', '.join(fields) or 'nothing'}; these are of {self.names}.")
        for name, field in fields.items():
            good = field.ndim == 2 and field.numel() > 0 and bool(((field >= 0) & (field <= 1)).all())
            if not good:
                raise AdapterError(
                    f"The field of {name!r} is of shape {tuple(field.shape)}; height and width are needed, "
                    "with numbers from 0 (not here) to 1 (here)."
                )
        self._fields = {name: field.detach().float().cpu() for name, field in fields.items()}
        self._made: dict[object, Tensor] = {}

    @property
    def copies(self) -> int:
        """How many there are of each word: one that no confined adapter reads, and one for each of them."""
        return 1 + len(self.names)

    def shares(self, tokens: int, like: Tensor) -> Tensor:
        """(confined adapters, tokens, 1): how much each place sees of the copy of each."""
        found = [self._on(name, grid_of(tokens, self.grid)).flatten() for name in self.names]
        return torch.stack(found)[..., None].to(like)

    def factor(self, rows: Rows, inner: Tensor, *, words: bool) -> Tensor:
        """What multiplies `down x` of a stack: (R, h, w) for (b, R, h, w), (tokens, R) for (b, tokens, R),
        (b, 1, R) where these are words, and (R,) where there are neither.
        """
        key = rows, words, tuple(inner.shape[0 if words else 1 :]), inner.dtype, inner.device
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._factor(rows, inner, words=words).to(inner)
        return made

    def _factor(self, rows: Rows, inner: Tensor, *, words: bool) -> Tensor:
        ranks = torch.tensor([rank for _, rank in rows])
        if words:
            each = torch.tensor([self._reads(name) for name, _ in rows])  # (adapters, copies)
            samples, odd = divmod(len(inner), self.copies)
            assert not odd, "words are read apart wherever adapters are confined"
            copies = each.T.repeat_interleave(samples, 0)
            return copies.repeat_interleave(ranks, 1)[:, None]
        if inner.ndim == 4:
            grid = inner.shape[2], inner.shape[3]
            return torch.stack([self._on(name, grid) for name, _ in rows]).repeat_interleave(ranks, 0)
        if inner.ndim == 3:
            grid = grid_of(inner.shape[1], self.grid)
            fields = torch.stack([self._on(name, grid).flatten() for name, _ in rows], 1)
            return fields.repeat_interleave(ranks, 1)
        least = [float(self._fields[name].min()) if name in self._fields else 1.0 for name, _ in rows]
        return torch.tensor(least).repeat_interleave(ranks)

    def _reads(self, name: str) -> list[float]:
        """In which copies of the words an adapter acts: all, or its own."""
        if name not in self._fields:
            return [1.0] * self.copies
        return [float(other == name) for other in ("", *self.names)]

    def _on(self, name: str, grid: tuple[int, int]) -> Tensor:
        """The mean of the field in each cell; 1 for an adapter that is not confined."""
        if name not in self._fields:
            return torch.ones(*grid)
        return F.adaptive_avg_pool2d(self._fields[name][None], grid)[0]


def grid_of(tokens: int, grid: tuple[int, int]) -> tuple[int, int]:
    """The grid of a layer with that many places: the latents' `grid`, halved as often as it takes.

    Raises:
        AdapterError: it is none of these.
    """
    height, width = grid
    while height * width > tokens:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise AdapterError(
            f"A layer has {tokens} places, and latents of {grid[0]} x {grid[1]} are never so many when "
            "halved: adapters cannot be confined on this base."
        )
    return height, width
