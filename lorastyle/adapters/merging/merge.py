"""Many adapters into one.

`concat`, `svd` and `linear-on-delta` add the updates themselves, sum of s_i * alpha_i / r_i * B_i A_i, and
never form a dense matrix where all are low rank. Adding the factors instead, (sum of B_i) (sum of A_i), as
peft's "linear" and kohya's merge do, gives cross terms B_i A_j that belong to no adapter: nine tenths of the
result is wrong for two that have nothing in common. `ties`, `dare` and `magnitude` work number by number, so
they form the dense difference of one module at a time in float32, and an SVD brings it back to a rank.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lorastyle.errors import AdapterError, ConfigError

from ..adapter import Adapter
from ..decompose import dense_spectrum
from ..load import Modules
from ..lowrank import LowRank, Spectrum
from ..ranks import by_energy, by_numbers, uniform
from ..updates import Difference, Update
from .place import Place, places
from .pruning import dare, magnitude, ties
from .record import merged_metadata, merged_words
from .result import Merged, MergedModule, merge_error
from .settings import DENSITY, PRUNING, MergeSettings
from .weighted import Weighted, Weights, check_parts

_EXACT = 1e-7  # of the largest singular value: what float32 cannot hold beside it
_ROOM = 4  # times the average rank: what a module may get where a size is asked of pruned differences


def merge(
    parts: Sequence[Weighted],
    settings: MergeSettings | None = None,
    *,
    name: str = "merged",
    modules: Modules | None = None,
    weights: Weights | None = None,
    on_module: Callable[[int, int], None] | None = None,
) -> Merged:
    """One adapter that does what several do together at their scales.

    Where no rank, energy or number is asked for, "svd" and the pruning methods take the largest rank of the
    adapters. Norm layers and biases are added, whatever the method. An adapter alone at a scale of 1 stays
    what it is, but for "ties", "dare" and "magnitude" of a density below 1.

    Args:
        modules: {component: {path: shape of the weight}}, for updates that do not say it.
        weights: the base's, for DoRA, OFT, BOFT and IA3, whose difference depends on them.
        on_module: told (done, of how many) after each module.

    Raises:
        BaseMismatchError: made for different families, or of different sizes.
        AdapterError: a scale that is no finite number, none but 0, an update that the method cannot hold.
        ConfigError: no rank is known where one is needed.

    Warns:
        AdapterWarning: a scale of 0 or beyond +-10, or a word that two adapters teach.
    """
    settings = settings or MergeSettings()
    check_parts(parts)
    parts = [part for part in parts if part.scale != 0]
    if not (found := list(places(parts, modules))):
        raise AdapterError("Every factor is 0, so nothing is left to put together.")
    settings = _with_rank(settings, parts)
    work = _Work(settings, weights, found)
    for done, place in enumerate(found, 1):
        work.take(place)
        if on_module is not None:
            on_module(done, len(found))
    components, rows = work.finish()
    adapter = Adapter(name, components, {}, work.dense, merged_words(parts))
    metadata = merged_metadata(parts, settings.chosen, settings.share, settings.seed, merge_error(rows))
    return Merged(adapter.with_metadata(metadata), settings.chosen, rows, work.whole)


def _with_rank(settings: MergeSettings, parts: Sequence[Weighted]) -> MergeSettings:
    if settings.limited or settings.chosen not in (*PRUNING, "svd"):
        return settings
    ranks = [rank for part in parts for rank in part.adapter.ranks]
    if not ranks:
        raise ConfigError("None of these adapters has a rank; say which one the result is to have.")
    return replace(settings, rank=max(ranks))


class _Work:
    """Module after module; what is dense is let go before the next."""

    def __init__(self, settings: MergeSettings, weights: Weights | None, found: Sequence[Place]) -> None:
        self.dense: dict[str, dict[str, Update]] = {}
        self.whole: dict[str, int] = {}
        self._settings, self._weights = settings, weights
        self._done: dict[tuple[str, str], tuple[LowRank, MergedModule]] = {}
        self._waiting: dict[tuple[str, str], tuple[Spectrum, LowRank | None, int]] = {}
        self._first = settings.rank
        if settings.numbers is not None:
            price = sum(p.shape[0] + math.prod(p.shape[1:]) for p in found if not p.is_vector)
            self._first = _ROOM * settings.numbers // max(price, 1) + _ROOM

    def take(self, place: Place) -> None:
        if (vectors := place.vectors()) is not None:
            self._keep(place, vectors)
        if place.is_vector:
            return
        method, at = self._settings.chosen, (place.component, place.path)
        adding = method in ("concat", "svd", "linear-on-delta")
        if adding and place.is_low_rank:
            stacked = place.stacked()
            if method == "concat":
                self._store(at, stacked, stacked.rank, 0.0, stacked.norm() ** 2)
            else:
                self._wait(at, stacked.spectrum(), stacked, stacked.rank)
        elif method == "concat":
            self._keep_alone(place, vectors)
        elif method == "linear-on-delta" and not self._settings.limited:
            total = torch.stack(place.matrices(self._weights)).sum(0).reshape(place.shape)
            self._keep(place, Difference(weight=total, bias=None if vectors is None else vectors.bias))
        else:
            total = self._combined(place, place.matrices(self._weights))
            spectrum = dense_spectrum(total, place.shape, first=self._first)
            self._wait(at, spectrum, None, min(total.shape))

    def finish(self) -> tuple[dict[str, dict[str, LowRank]], tuple[MergedModule, ...]]:
        """The low-rank updates, and what became of each module."""
        if self._waiting:
            spectra = {at: spectrum for at, (spectrum, _, _) in self._waiting.items()}
            kept = by_numbers(spectra, self._settings.numbers or 0)
            for at, (spectrum, stacked, before) in self._waiting.items():
                self._cut(at, spectrum, stacked, before, kept[at])
        components: dict[str, dict[str, LowRank]] = {}
        for (component, path), (update, _) in self._done.items():
            components.setdefault(component, {})[path] = update
        return components, tuple(row for _, row in self._done.values())

    def _combined(self, place: Place, matrices: list[Tensor]) -> Tensor:
        method, density = self._settings.chosen, self._settings.share or DENSITY
        if method == "ties":
            return ties(matrices, density)
        if method == "magnitude":
            return magnitude(matrices, density)
        if method == "dare":
            words = f"{self._settings.seed} {place.component} {place.path}"
            seed = int.from_bytes(hashlib.sha256(words.encode()).digest()[:7], "little")
            return dare(matrices, density, torch.Generator().manual_seed(seed))
        return torch.stack(matrices).sum(0)

    def _wait(self, at: tuple[str, str], spectrum: Spectrum, stacked: LowRank | None, before: int) -> None:
        """Decide the rank, at once where it does not depend on other modules."""
        if self._settings.numbers is not None:
            self._waiting[at] = spectrum, stacked, before
            return
        if self._settings.rank is not None:
            rank = uniform({at: spectrum}, self._settings.rank)[at]
        elif self._settings.energy is not None:
            rank = by_energy({at: spectrum}, self._settings.energy)[at]
        else:
            rank = max(1, int((spectrum.values > _EXACT * spectrum.values[0]).sum()))
        self._cut(at, spectrum, stacked, before, rank)

    def _cut(
        self, at: tuple[str, str], spectrum: Spectrum, stacked: LowRank | None, before: int, rank: int
    ) -> None:
        if stacked is not None and rank >= stacked.rank:  # what keeps its rank keeps its bits
            self._store(at, stacked, before, 0.0, spectrum.energy)
        else:
            self._store(at, spectrum.cut(rank), before, spectrum.lost(rank), spectrum.energy)

    def _store(self, at: tuple[str, str], update: LowRank, before: int, lost: float, energy: float) -> None:
        self._done[at] = update, MergedModule(*at, before, update.rank, lost, energy)

    def _keep(self, place: Place, update: Update) -> None:
        self.dense.setdefault(place.component, {})[place.path] = update
        self.whole[update.algorithm] = self.whole.get(update.algorithm, 0) + 1

    def _keep_alone(self, place: Place, vectors: Difference | None) -> None:
        """An update that is not low rank, where it is the only one of its module and at a scale of 1."""
        change, *others = place.changes
        if others or change.factor != 1 or change.low_rank is not None or change.other is None:
            listed = ", ".join(sorted({c.other.algorithm for c in place.changes if c.other is not None}))
            raise AdapterError(
                f"{place.component} {place.path} has an update of {listed}, which has no factors to put side "
                "by side. Take another method, such as svd with a rank."
            )
        if vectors is not None:
            self.whole[vectors.algorithm] -= 1
        self._keep(place, change.other)
