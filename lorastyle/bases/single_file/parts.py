"""What one part of a checkpoint becomes: the config of its class, and where in the file each weight lies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class LayoutError(Exception):
    """The tensors are not those of a model that lorastyle knows; the message says where it shows."""


@dataclass(frozen=True)
class Source:
    """One weight's tensor in the file, and what is done to it on the way.

    Attributes:
        key: its full name in the file.
        third: OpenCLIP stores query, key and value as one matrix; this is which of them (0, 1, 2).
        turned: stored as (in, out), where a Linear wants (out, in).
        flat: stored as a convolution of 1 x 1, where diffusers has a Linear.
    """

    key: str
    third: int | None = None
    turned: bool = False
    flat: bool = False

    def shape(self, stored: Shape) -> Shape:
        """The weight's shape, told from that of the stored tensor."""
        if self.third is not None and stored and stored[0] % 3 == 0:
            stored = (stored[0] // 3, *stored[1:])
        if self.turned:
            stored = stored[::-1]
        if self.flat and len(stored) in (3, 4) and set(stored[2:]) == {1}:
            stored = stored[:2]
        return stored

    def view(self, stored: Tensor) -> Tensor:
        """The weight's numbers within the stored tensor: what is written there is written into the file's."""
        if self.third is not None:
            stored = stored.chunk(3)[self.third]
        return stored.T if self.turned else stored

    def weight(self, stored: Tensor, dtype: torch.dtype) -> Tensor:
        """A copy of the weight that no longer needs the file."""
        if self.third is not None:
            stored = stored.chunk(3)[self.third]
        if self.turned:
            stored = stored.T
        if self.flat:
            stored = stored.flatten(1) if stored.ndim > 2 else stored
        return stored.to(dtype, copy=True).contiguous()


@dataclass(frozen=True)
class Part:
    """One component: arguments for its class, and its weights' sources by their names in that class."""

    config: Mapping[str, Any]
    sources: Mapping[str, Source]


def distinct(sources: Iterable[tuple[str, Source]]) -> dict[str, Source]:
    """Sources by the names of their weights.

    Raises:
        LayoutError: two tensors claim one weight, as where a file was saved under two spellings.
    """
    found: dict[str, Source] = {}
    for name, source in sources:
        if name in found:
            raise LayoutError(f"both {found[name].key} and {source.key} claim to be its {name}")
        found[name] = source
    return found


def under(shapes: Shapes, prefix: str) -> dict[str, Shape]:
    """The tensors whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def size(shapes: Shapes, name: str, axis: int) -> int:
    """One side of a tensor.

    Raises:
        LayoutError: there is no such tensor, or it has no such axis, or no element.
    """
    if name not in shapes:
        raise LayoutError(f"{name} is missing")
    shape = shapes[name]
    if axis >= len(shape) or 0 in shape:
        raise LayoutError(f"{name} has the shape {shape}")
    return shape[axis]
