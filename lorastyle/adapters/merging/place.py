"""What adapters change at a module, and what their weighted sum is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorastyle.errors import AdapterError, BaseMismatchError

from ..load import Modules
from ..lowrank import LowRank
from ..updates import Difference, Update, dense
from .weighted import Weighted, Weights


@dataclass(frozen=True)
class Change:
    """What one adapter does at one module: a low-rank update, another, or both; times `factor`.

    Attributes:
        part: which of the adapters, counted from 0.
    """

    part: int
    adapter: str
    factor: float
    low_rank: LowRank | None
    other: Update | None

    @property
    def matrix(self) -> tuple[LowRank | Update, ...]:
        """The updates that change the weight, and not a norm or a bias alone."""
        both = (self.low_rank, self.other)
        return tuple(u for u in both if u is not None and (isinstance(u, LowRank) or not _is_vector(u)))


@dataclass(frozen=True)
class Place:
    """A module that some of the adapters change, and their changes; none of a factor of 0.

    Attributes:
        shape: of its weight.
    """

    component: str
    path: str
    shape: tuple[int, ...]
    changes: tuple[Change, ...]

    @property
    def is_low_rank(self) -> bool:
        """Whether its weight is changed, and by nothing but low-rank updates."""
        updates = [update for change in self.changes for update in change.matrix]
        return bool(updates) and all(isinstance(update, LowRank) for update in updates)

    @property
    def is_vector(self) -> bool:
        """A norm layer, or a bias alone."""
        return not any(change.matrix for change in self.changes)

    def stacked(self) -> LowRank:
        """The weighted sum of the low-rank updates, exactly: their factors side by side, ranks added.

        down = [A_1; A_2; ...] and up = [c_1 B_1, c_2 B_2, ...], with c = factor * alpha / rank. A single
        update keeps its factors' bits, and at a factor of 1 is itself.
        """
        terms = [(c.factor, c.low_rank) for c in self.changes if c.low_rank is not None]
        if len(terms) == 1:
            factor, only = terms[0]
            return only if factor == 1 else LowRank(only.down, only.up, only.alpha * factor)
        ones = (1,) * (len(self.shape) - 2)
        down = torch.cat([update.down.float().reshape(-1, *self.shape[1:]) for _, update in terms])
        up = torch.cat(
            [
                (update.up.double() * (factor * update.scale)).float().reshape(self.shape[0], -1, *ones)
                for factor, update in terms
            ],
            dim=1,
        )
        return LowRank(down, up, float(down.shape[0]))

    def matrices(self, weights: Weights | None) -> list[Tensor]:
        """The dense difference of each adapter, (out, rest), float32, with its factor.

        Raises:
            AdapterError: one depends on the weight, and no base is at hand.
        """
        weight = self._weight(weights)
        found: list[Tensor] = []
        for change in self.changes:
            if change.matrix:
                total = torch.stack([dense(update, weight).flatten(1) for update in change.matrix]).sum(0)
                found.append(change.factor * total)
        return found

    def vectors(self) -> Difference | None:
        """The weighted sum of what is added to a norm's weight, and to a bias."""
        weight: Tensor | None = None
        bias: Tensor | None = None
        for change in self.changes:
            if isinstance(change.other, Difference) and _is_vector(change.other):
                weight = _added(weight, change.other.weight, change.factor)
            bias = _added(bias, None if change.other is None else change.other.bias, change.factor)
        return None if weight is None and bias is None else Difference(weight=weight, bias=bias)

    def _weight(self, weights: Weights | None) -> Tensor:
        for change in self.changes:
            if change.other is not None and change.other.reads_weight and weights is None:
                raise AdapterError(
                    f"{self.component} {self.path} of {change.adapter!r} is {change.other.algorithm}, whose "
                    "difference depends on the base's weights. Name that base with --base."
                )
        reads = any(c.other is not None and c.other.reads_weight for c in self.changes)
        if reads and weights is not None:
            return weights(self.component, self.path).float()
        return torch.zeros(self.shape)


def places(parts: Sequence[Weighted], modules: Modules | None = None) -> Iterator[Place]:
    """Every module that the adapters change, in the order of their first appearance.

    Args:
        modules: {component: {path: shape of the weight}}, for updates that do not say it.

    Raises:
        BaseMismatchError: two of them disagree about the size of a weight.
        AdapterError: a size that nobody knows.
    """
    order: dict[tuple[str, str], None] = {}
    for part in parts:
        for component, path, _ in (*part.adapter.updates(), *part.adapter.dense_updates()):
            order[component, path] = None
    for component, path in order:
        changes: list[Change] = []
        for number, part in enumerate(parts):
            low = part.adapter.components.get(component, {}).get(path)
            other = part.adapter.dense.get(component, {}).get(path)
            factor = part.factor(component, path)
            if (low is not None or other is not None) and factor != 0:
                changes.append(Change(number, part.adapter.name, factor, low, other))
        if changes:
            yield Place(component, path, _shape(component, path, changes, modules), tuple(changes))


def _shape(component: str, path: str, changes: Sequence[Change], modules: Modules | None) -> tuple[int, ...]:
    known = (modules or {}).get(component, ())
    told = known.get(path) if isinstance(known, Mapping) else None
    shapes = [
        (c.adapter, update.shape) for c in changes for update in (c.low_rank, c.other) if update is not None
    ]
    stated = [(name, shape) for name, shape in shapes if shape is not None]
    if told is not None:
        stated.insert(0, ("the base", tuple(told)))
    if not stated:
        if all(c.low_rank is None and isinstance(c.other, Difference) for c in changes):
            return ()  # biases alone
        raise AdapterError(
            f"The size of {component} {path} is not known. Name the base that the adapters were made for."
        )
    sizes: dict[tuple[int, int], tuple[str, tuple[int, ...]]] = {}
    for name, shape in stated:
        sizes.setdefault((shape[0], math.prod(shape[1:])), (name, shape))
    if len(sizes) > 1:
        (a, first), (b, second) = list(sizes.values())[:2]
        raise BaseMismatchError(
            f"{component} {path} is {first} for {a} and {second} for {b}: they were made for different "
            "bases. Only adapters of one family go together."
        )
    linear = [shape for _, shape in stated if len(shape) > 1]
    return (linear or [stated[0][1]])[0]


def _is_vector(update: Update) -> bool:
    return isinstance(update, Difference) and (update.weight is None or update.weight.ndim == 1)


def _added(total: Tensor | None, more: Tensor | None, factor: float) -> Tensor | None:
    if more is None:
        return total
    scaled = factor * more.float()
    if total is not None and total.shape != scaled.shape:
        raise BaseMismatchError(
            f"A norm layer or bias has {total.numel()} numbers in one adapter and {scaled.numel()} in "
            "another. They were made for different bases. Only adapters of one family go together."
        )
    return scaled if total is None else total + scaled
