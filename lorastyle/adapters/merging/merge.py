"""Many adapters into one.

`concat`, `svd` and `linear-on-delta` add the updates themselves, sum of s_i * alpha_i / r_i * B_i A_i, and
never form a dense matrix where all are low rank. Adding the factors instead, (sum of B_i) (sum of A_i), as
peft's "linear" and kohya's merge do, gives cross terms B_i A_j that belong to no adapter: nine tenths of the
result is wrong for two that have nothing in common. `ties`, `dare` and `magnitude` work number by number, so
they form the dense difference of one module at a time in float32, and an SVD brings it back to a rank.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lorastyle.errors import AdapterError, ConfigError

from ..adapter import Adapter
from ..cutting import Cutter, cut_error
from ..decompose import dense_spectrum
from ..load import Modules
from ..updates import Difference, Update
from .place import Place, places
from .pruning import dare, magnitude, ties
from .record import merged_metadata, merged_words
from .result import Merged
from .settings import DENSITY, PRUNING, MergeSettings
from .weighted import Weighted, Weights, check_parts


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
    parts = [part for part in parts if part.is_used]
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
    metadata = merged_metadata(parts, settings.chosen, settings.share, settings.seed, cut_error(rows))
    return Merged(adapter.with_metadata(metadata), settings.chosen, rows, work.whole)


def _with_rank(settings: MergeSettings, parts: Sequence[Weighted]) -> MergeSettings:
    if settings.limit or settings.chosen not in (*PRUNING, "svd"):
        return settings
    ranks = [rank for part in parts for rank in part.adapter.ranks]
    if not ranks:
        raise ConfigError("None of these adapters has a rank; say which one the result is to have.")
    return replace(settings, rank=max(ranks))


class _Work:
    """Module after module; what is dense is let go before the next."""

    def __init__(self, settings: MergeSettings, weights: Weights | None, found: Sequence[Place]) -> None:
        self.dense: dict[str, dict[str, Update]] = {}
        self._settings, self._weights = settings, weights
        self._first = settings.limit.parts([place.shape for place in found if not place.is_vector])
        self._cutter = Cutter(settings.limit)
        self.finish = self._cutter.finish

    @property
    def whole(self) -> dict[str, int]:
        """{algorithm: modules} of what is not low rank."""
        return dict(Counter(update.algorithm for paths in self.dense.values() for update in paths.values()))

    def take(self, place: Place) -> None:
        """Make the sum at one module."""
        method, at = self._settings.chosen, (place.component, place.path)
        if (vectors := place.vectors()) is not None:
            self._keep(place, vectors)
        if place.is_vector:
            return
        if place.is_low_rank and method not in PRUNING:
            stacked = place.stacked()
            if method == "concat":
                self._cutter.keep(at, stacked)
            else:
                self._cutter.cut(at, stacked.spectrum(), before=stacked.rank, whole=stacked)
        elif method == "concat":
            self._keep(place, _alone(place))
        elif method == "linear-on-delta" and not self._settings.limit:
            total = torch.stack(place.matrices(self._weights)).sum(0).reshape(place.shape)
            self._keep(place, Difference(weight=total, bias=None if vectors is None else vectors.bias))
        else:
            total = self._combined(place, place.matrices(self._weights))
            spectrum = dense_spectrum(total, place.shape, first=self._first)
            self._cutter.cut(at, spectrum, before=min(total.shape))

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

    def _keep(self, place: Place, update: Update) -> None:
        self.dense.setdefault(place.component, {})[place.path] = update


def _alone(place: Place) -> Update:
    """An update that is not low rank, where it is the only one of its module and at a scale of 1.

    Raises:
        AdapterError: it is not.
    """
    change, *others = place.changes
    if others or change.factor != 1 or change.low_rank is not None or change.other is None:
        listed = ", ".join(sorted({c.other.algorithm for c in place.changes if c.other is not None}))
        raise AdapterError(
            f"{place.component} {place.path} has an update of {listed}, which has no factors to put side "
            "by side. Take another method, such as svd with a rank."
        )
    return change.other
