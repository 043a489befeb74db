"""Module after module to a rank, an energy or a size, with what each costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lorastyle.errors import ConfigError

from .lowrank import LowRank, Spectrum
from .ranks import by_energy, by_numbers, uniform

At: TypeAlias = tuple[str, str]
"""(component, module path)"""
_EXACT = 1e-7  # of the largest singular value: what float32 cannot hold beside it
_ROOM = 4  # times the average rank: what a dense module may get where a size is asked for


@dataclass(frozen=True)
class Limit:
    """How small the result is to be; at most one of them.

    Attributes:
        rank: at most so much everywhere.
        energy: the share of squared singular values that each module keeps (`by_energy`).
        numbers: at most so many in all factors together (`by_numbers`).

    Raises:
        ConfigError: more than one, or one out of range.
    """

    rank: int | None = None
    energy: float | None = None
    numbers: int | None = None

    def __post_init__(self) -> None:
        if [self.rank, self.energy, self.numbers].count(None) < 2:
            raise ConfigError("Say at most one of rank, energy and size.")
        if self.rank is not None and self.rank < 1:
            raise ConfigError(f"rank is {self.rank}; it must be at least 1.")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise ConfigError(f"energy is {self.energy}; it must be above 0 and at most 1, such as 0.99.")

    def __bool__(self) -> bool:
        return self != Limit()

    def parts(self, shapes: Sequence[tuple[int, ...]]) -> int | None:
        """How many singular values to ask of a dense difference, one of these shapes; None is all. Where a
        size is asked for, four times the rank that all would get alike: no module gets more.
        """
        if self.numbers is None:
            return self.rank
        price = sum(shape[0] + math.prod(shape[1:]) for shape in shapes)
        return _ROOM * self.numbers // max(price, 1) + _ROOM


@dataclass(frozen=True)
class RankCut:
    """What became of one module.

    Attributes:
        before: the rank of what there was; of a dense difference the largest there can be.
        after: the rank that it has.
        lost: the squared Frobenius norm of what that rank leaves out.
        energy: the squared Frobenius norm of the whole.
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
        return cut_error([self])


def cut_error(cuts: Sequence[RankCut]) -> float:
    """The Frobenius norm of what is left out of some modules together, over that of the whole."""
    whole = sum(cut.energy for cut in cuts)
    return math.sqrt(sum(cut.lost for cut in cuts) / whole) if whole else 0.0


class Cutter:
    """Takes spectra one after another and gives low-rank updates. Where a limit lets each module be decided
    alone, its spectrum is let go at once; without a limit, what float32 can tell from nothing stays.
    """

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._done: dict[At, tuple[LowRank, RankCut]] = {}
        self._waiting: dict[At, tuple[Spectrum, LowRank | None, int]] = {}

    def keep(self, at: At, update: LowRank) -> None:
        """An update as it is."""
        rank = update.rank
        self._done[at] = update, RankCut(*at, rank, rank, 0.0, update.norm() ** 2)

    def cut(self, at: At, spectrum: Spectrum, *, before: int, whole: LowRank | None = None) -> None:
        """To the rank that the limit allows.

        Args:
            before: the rank until now.
            whole: the same update in factors; it keeps its bits where it keeps its rank.
        """
        if self._limit.numbers is not None:
            self._waiting[at] = spectrum, whole, before
        elif self._limit.rank is not None:
            self._cut(at, spectrum, whole, before, uniform({at: spectrum}, self._limit.rank)[at])
        elif self._limit.energy is not None:
            self._cut(at, spectrum, whole, before, by_energy({at: spectrum}, self._limit.energy)[at])
        else:
            rank = max(1, int((spectrum.values > _EXACT * spectrum.values[0]).sum()))
            self._cut(at, spectrum, whole, before, rank)

    def finish(self) -> tuple[dict[str, dict[str, LowRank]], tuple[RankCut, ...]]:
        """The low-rank updates of each component, and what became of each module.

        Raises:
            AdapterError: a number of numbers that is too small for rank 1 everywhere.
        """
        if self._waiting:
            spectra = {at: spectrum for at, (spectrum, _, _) in self._waiting.items()}
            kept = by_numbers(spectra, self._limit.numbers or 0)
            for at, (spectrum, whole, before) in self._waiting.items():
                self._cut(at, spectrum, whole, before, kept[at])
            self._waiting.clear()
        components: dict[str, dict[str, LowRank]] = {}
        for (component, path), (update, _) in self._done.items():
            components.setdefault(component, {})[path] = update
        return components, tuple(cut for _, cut in self._done.values())

    def _cut(self, at: At, spectrum: Spectrum, whole: LowRank | None, before: int, rank: int) -> None:
        if whole is not None and rank >= whole.rank:
            told = RankCut(*at, before, whole.rank, 0.0, spectrum.energy)
            self._done[at] = whole, told
        else:
            update = spectrum.cut(rank)
            told = RankCut(*at, before, update.rank, spectrum.lost(rank), spectrum.energy)
            self._done[at] = update, told
