"""What a merge makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..adapter import Adapter
from ..cutting import RankCut, cut_error


@dataclass(frozen=True)
class Merged:
    """One adapter made of several.

    Attributes:
        modules: those that became low rank, in order of first appearance.
        whole: {algorithm: modules} of what is in the result and not low rank.
    """

    adapter: Adapter
    method: str
    modules: tuple[RankCut, ...]
    whole: Mapping[str, int]

    @property
    def error(self) -> float:
        """Of all modules together: the norm of what the ranks leave out over that of the whole."""
        return cut_error(self.modules)
