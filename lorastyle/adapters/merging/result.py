"""What became of the modules of a merge, and of an extraction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..adapter import Adapter


@dataclass(frozen=True)
class MergedModule:
    """What became of one module.

    Attributes:
        before: the rank of the sum: the ranks added up; of a dense difference the largest there can be.
        after: the rank that it has.
        lost: the squared Frobenius norm of what that rank leaves out.
        energy: the squared Frobenius norm of the whole sum.
    """

    component: str
    path: str
    before: int
    after: int
    lost: float
    energy: float

    @property
    def error(self) -> float:
        """The norm of what is left out over that of the whole."""
        return merge_error([self])


@dataclass(frozen=True)
class Merged:
    """One adapter made of several.

    Attributes:
        modules: those that became low rank, in order of first appearance.
        whole: {algorithm: modules} of what is in the result and not low rank.
    """

    adapter: Adapter
    method: str
    modules: tuple[MergedModule, ...]
    whole: Mapping[str, int]

    @property
    def error(self) -> float:
        """Of all modules together: the norm of what the ranks leave out over that of the whole."""
        return merge_error(self.modules)

    def by_component(self) -> dict[str, tuple[MergedModule, ...]]:
        """The modules of each component."""
        names = dict.fromkeys(module.component for module in self.modules)
        return {name: tuple(m for m in self.modules if m.component == name) for name in names}


def merge_error(modules: Sequence[MergedModule]) -> float:
    """The Frobenius norm of what is left out of some modules, over that of the whole."""
    whole = sum(module.energy for module in modules)
    return math.sqrt(sum(module.lost for module in modules) / whole) if whole else 0.0
