"""How strongly each adapter acts: what users set, as a column of numbers for each adapter and component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from lorastyle.adapters import BlockWeights
from lorastyle.errors import AdapterError

Scales = Mapping[str, Mapping[str, float]]
"""{adapter: {component: scale}}"""

Choices = Mapping[str, Mapping[tuple[str, str], float]]
"""{adapter: {(component, path): factor}}"""

T = TypeVar("T")

Column = tuple[str, str]
"""(adapter, component)"""


@dataclass(frozen=True)
class Mix:
    """One setting of a bank.

    Attributes:
        scales: the user's multipliers.
        rows: one such for each sample of the batch; empty where `scales` holds for all of them.
        weights: {adapter: what its scales are multiplied by in each block}.
        factors: {adapter: what its scales are multiplied by at this step}; 1 where it is not named.
        choices: {adapter: {(component, path): the same for one module}}, times the others.
    """

    scales: Scales = field(default_factory=dict[str, dict[str, float]])
    rows: tuple[Scales, ...] = ()
    weights: Mapping[str, BlockWeights] = field(default_factory=dict[str, BlockWeights])
    factors: Mapping[str, float] = field(default_factory=dict[str, float])
    choices: Choices = field(default_factory=dict[str, dict[tuple[str, str], float]])

    def column(self, name: str, component: str) -> tuple[float, ...]:
        """The strength of an adapter on a component, for each sample or once, before block weights."""
        factor = self.factors.get(name, 1.0)
        return tuple(scales[name][component] * factor for scales in self.rows or (self.scales,))

    def weight(self, name: str, component: str, path: str) -> float:
        """What multiplies the strength at a module."""
        weights = self.weights.get(name)
        return 1.0 if weights is None else weights.at(component, path)

    def choice(self, name: str, component: str, path: str) -> float:
        """What multiplies it further at this step."""
        return self.choices.get(name, {}).get((component, path), 1.0)

    def strength(self, name: str, component: str, path: str) -> float:
        """The one strength at a module, everything counted; 0 for an adapter that is just moving in.

        Raises:
            AdapterError: it differs between the samples, where one is needed: for what is added to weights.
        """
        if name not in self.scales:
            return 0.0
        column = self.column(name, component)
        if len(set(column)) > 1:
            raise AdapterError(
                f"The scale of {name!r} differs between the pictures of the batch, and it is added to the "
                "weights, which they share. Draw them one by one."
            )
        return column[0] * self.weight(name, component, path) * self.choice(name, component, path)

    def used(self, name: str, component: str) -> bool:
        """Whether it is ever on: for some sample, whatever the step says now."""
        return any(scales[name][component] != 0 for scales in self.rows or (self.scales,))

    def having(self, name: str, scales: Mapping[str, float]) -> Mix:
        """With an adapter more, for every sample alike."""
        rows = tuple({**row, name: scales} for row in self.rows)
        return replace(self, scales={**self.scales, name: scales}, rows=rows)

    def without(self, name: str) -> Mix:
        """With an adapter less."""

        def rest(named: Mapping[str, T]) -> dict[str, T]:
            return {other: value for other, value in named.items() if other != name}

        rows = tuple(rest(row) for row in self.rows)
        return Mix(rest(self.scales), rows, rest(self.weights), rest(self.factors), rest(self.choices))

    def stacks_as(self, other: Mix) -> bool:
        """Whether every layer has the same stack in both."""
        return self.weights == other.weights and self._used_columns == other._used_columns

    @property
    def _used_columns(self) -> set[Column]:
        return {(n, c) for n, scales in self.scales.items() for c in scales if self.used(n, c)}
