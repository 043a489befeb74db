"""Which pictures a step sees: each once an epoch, in an order that depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .objective import seeded


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture, encoded.

    Attributes:
        id: its name in the folder; its randomness hangs on it.
        moments: (2c, h/8, w/8), on the CPU.
        of_class: drawn by the base for prior preservation.
        time_ids: how it was framed; see `framing`.
    """

    id: str
    prompt: str
    moments: Tensor
    of_class: bool = False
    time_ids: tuple[float, ...] = (0.0,) * 6


@dataclass(frozen=True, eq=False)
class Batch:
    """Own pictures first, then as many class pictures where there are any.

    Attributes:
        moments: (b, 2c, h/8, w/8); of_class: (b,) bool; time_ids: (b, 6) float32.
    """

    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    moments: Tensor
    of_class: Tensor
    time_ids: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one picture's latents, (c, h, w)."""
        _, channels, height, width = self.moments.shape
        return channels // 2, height, width


class Batches:
    """The batch of any step, without walking through those before it: resuming changes nothing.

    Args:
        own, of_class: the pictures; `of_class` may be empty.
        size: own pictures a batch. Where it is larger than the folder, pictures come more than once, each
            time with fresh noise.
    """

    def __init__(self, own: Sequence[Picture], of_class: Sequence[Picture], size: int, seed: int) -> None:
        self._own, self._of_class, self._size, self._seed = own, of_class, size, seed

    def __call__(self, step: int) -> Batch:
        chosen = [self._pick(self._own, "own", step * self._size + i) for i in range(self._size)]
        if self._of_class:
            chosen += [self._pick(self._of_class, "class", step * self._size + i) for i in range(self._size)]
        return Batch(
            tuple(picture.id for picture in chosen),
            tuple(picture.prompt for picture in chosen),
            torch.stack([picture.moments for picture in chosen]),
            torch.tensor([picture.of_class for picture in chosen]),
            torch.tensor([picture.time_ids for picture in chosen]),
        )

    def _pick(self, pictures: Sequence[Picture], kind: str, position: int) -> Picture:
        epoch, place = divmod(position, len(pictures))
        return pictures[_order(self._seed, kind, epoch, len(pictures))[place]]


@lru_cache(maxsize=8)
def _order(seed: int, kind: str, epoch: int, count: int) -> list[int]:
    return torch.randperm(count, generator=seeded(seed, kind, epoch)).tolist()
