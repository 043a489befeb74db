"""How to merge: by which method, and to what size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorastyle.errors import ConfigError, near_miss, shortened

from ..cutting import Limit

MERGE_METHODS: Mapping[str, str] = {
    "concat": "the exact sum, factors side by side: ranks add up",
    "linear-on-delta": "the exact sum in the fewest ranks that hold it",
    "svd": "the sum at a lower rank, as near as that rank allows",
    "ties": "the largest numbers of each, averaged where most agree about the sign",
    "dare": "numbers dropped at random, the rest made larger, then added",
    "magnitude": "the largest numbers of each, added",
}
PRUNING = ("ties", "dare", "magnitude")
DENSITY = 0.5


@dataclass(frozen=True)
class MergeSettings:
    """How to merge, and to what rank. At most one of `rank`, `energy` and `numbers`; see `shrink`.

    Attributes:
        method: one of `MERGE_METHODS`; None is "concat", or "svd" where a rank, an energy or numbers are
            asked for.
        density: of "ties", "dare" and "magnitude": the share of numbers that each adapter keeps, above 0 and
            at most 1; None is 0.5.
        seed: of "dare".

    Raises:
        ConfigError: values that cannot be used, or do not go together.
    """

    method: str | None = None
    rank: int | None = None
    energy: float | None = None
    numbers: int | None = None
    density: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        limit = self.limit
        method = self.chosen
        if method not in MERGE_METHODS:
            raise ConfigError(
                f"There is no method {shortened(method)}; allowed are {', '.join(MERGE_METHODS)}."
                f"{near_miss(method, MERGE_METHODS)}"
            )
        if method == "concat" and limit:
            raise ConfigError("concat keeps every rank; take the method svd to get a smaller file.")
        if self.density is not None and method not in PRUNING:
            raise ConfigError(f"A density is for {', '.join(PRUNING)}; {method} keeps every number.")
        if self.density is not None and not 0 < self.density <= 1:
            raise ConfigError(f"density is {self.density}; it must be above 0 and at most 1, such as 0.5.")

    @property
    def chosen(self) -> str:
        """The method."""
        return self.method or ("svd" if self.limit else "concat")

    @property
    def share(self) -> float | None:
        """The density; None where the method keeps every number."""
        return (self.density or DENSITY) if self.chosen in PRUNING else None

    @property
    def limit(self) -> Limit:
        """How small the result is to be."""
        return Limit(self.rank, self.energy, self.numbers)
