"""How strongly each adapter acts: what users set, as a column of numbers for each adapter and component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Scales = Mapping[str, Mapping[str, float]]
"""{adapter: {component: scale}}"""

Column = tuple[str, str]
"""(adapter, component)"""


@dataclass(frozen=True)
class Mix:
    """One setting of a bank.

    Attributes:
        scales: the user's multipliers.
        rows: one such for each sample of the batch; empty where `scales` holds for all of them.
        factors: {adapter: what its scales are multiplied by at this step}; 1 where it is not named.
    """

    scales: Scales
    rows: tuple[Scales, ...] = ()
    factors: Mapping[str, float] = field(default_factory=dict[str, float])

    def column(self, name: str, component: str) -> tuple[float, ...]:
        """The strength of an adapter on a component, for each sample or once for all."""
        factor = self.factors.get(name, 1.0)
        return tuple(scales[name][component] * factor for scales in self.rows or (self.scales,))

    def used(self, name: str, component: str) -> bool:
        """Whether it is ever on: for some sample, whatever the step says now."""
        return any(scales[name][component] != 0 for scales in self.rows or (self.scales,))

    @property
    def used_columns(self) -> frozenset[Column]:
        return frozenset(
            (n, c) for n, by_component in self.scales.items() for c in by_component if self.used(n, c)
        )

    def constant(self) -> Scales:
        """The strengths where they are the same for all samples.

        Raises:
            ValueError: an adapter whose strength differs between samples, by its name.
        """
        now: dict[str, dict[str, float]] = {}
        for name, by_component in self.scales.items():
            for component in by_component:
                column = self.column(name, component)
                if len(set(column)) > 1:
                    raise ValueError(name)
                now.setdefault(name, {})[component] = column[0]
        return now
