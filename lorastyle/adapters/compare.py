"""How far two adapters are apart, by the dense updates that they make."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lorastyle.errors import AdapterError

from .adapter import Adapter
from .load import Modules
from .updates import dense

Place = tuple[str, str]
"""(component, module path)"""


@dataclass(frozen=True)
class Comparison:
    """What became of the modules of two adapters.

    Attributes:
        modules: how many both change.
        only_first, only_second: places that one of them changes.
        largest: the largest absolute difference of a number in a dense update (or in a bias).
        where: the place that it is at; empty where there is no difference.
        reach: the largest absolute number in an update of the first.
        relative: the largest difference of a module in the Frobenius norm, over the norm of the first's.
    """

    modules: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    largest: float
    where: str
    reach: float
    relative: float

    def alike(self, tolerance: float) -> bool:
        """The same modules, none of them further apart than `tolerance`, relative to its norm."""
        return not (self.only_first or self.only_second) and self.relative <= tolerance


def compare_adapters(first: Adapter, second: Adapter, modules: Modules | None = None) -> Comparison:
    """Compare the updates of two adapters, one module after another, in float32.

    Updates that depend on the weight they change (DoRA, OFT, IA3, ...) are computed on a weight of chance,
    the same for both.

    Args:
        modules: {component: {path: shape of the weight}}, for updates that do not say it.

    Raises:
        AdapterError: the shape of a weight is not known.
    """
    places_first, places_second = _places(first), _places(second)
    both = [place for place in places_first if place in places_second]
    largest = reach = relative = 0.0
    where = ""
    for place in both:
        weight = _weight(first, second, place, modules)
        for a, b in zip(_changes(first, place, weight), _changes(second, place, weight), strict=True):
            apart = _largest(a - b)
            reach = max(reach, _largest(a))
            if apart > largest or math.isnan(apart):
                largest, where = apart, " ".join(place)
            size, distance = float(a.norm()), float((a - b).norm())
            if distance > 0:
                relative = max(relative, distance / size if size else math.inf)
    return Comparison(
        len(both),
        tuple(" ".join(p) for p in places_first if p not in places_second),
        tuple(" ".join(p) for p in places_second if p not in places_first),
        largest,
        where,
        reach,
        relative,
    )


def _places(adapter: Adapter) -> dict[Place, None]:
    everything = (*adapter.updates(), *adapter.dense_updates())
    return {(component, path): None for component, path, _ in everything}


def _weight(first: Adapter, second: Adapter, place: Place, modules: Modules | None) -> Tensor:
    """A weight of chance for this place; empty numbers where no update reads it."""
    component, path = place
    known = (modules or {}).get(component, ())
    shape = known.get(path) if isinstance(known, Mapping) else None
    for adapter in (first, second):
        if shape is None and (low := adapter.components.get(component, {}).get(path)) is not None:
            shape = low.shape
        update = adapter.dense.get(component, {}).get(path)
        if shape is None and update is not None:
            shape = update.shape
    if shape is None:
        raise AdapterError(
            f"The size of {component} {path} is not known. Name the base that the adapter was made for."
        )
    random = torch.Generator().manual_seed(0)
    fan_in = max(1, math.prod(shape[1:]))
    return torch.randn(tuple(shape), generator=random) / fan_in**0.5


def _changes(adapter: Adapter, place: Place, weight: Tensor) -> Iterator[Tensor]:
    """What the adapter adds to the weight, and to the bias."""
    component, path = place
    low, other = adapter.components.get(component, {}).get(path), adapter.dense.get(component, {}).get(path)
    total = torch.zeros_like(weight)
    for update in (low, other):
        if update is not None:
            total += dense(update, weight)
    yield total
    bias = None if other is None else other.bias
    yield torch.zeros(weight.shape[0]) if bias is None else bias.float()


def _largest(tensor: Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0
