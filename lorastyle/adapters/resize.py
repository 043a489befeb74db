"""A smaller adapter that draws nearly the same: the best approximation of each update at a lower rank."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lorastyle.errors import AdapterError, ConfigError

from .adapter import Adapter
from .convert import free_target, known_modules, load_whole, own_dtype, written_dtypes
from .file_room import numbers_within, other_numbers
from .load import Modules
from .lowrank import LowRank, Spectrum
from .ranks import by_energy, by_numbers, error_of, uniform
from .save import TooManyBytes, save_adapter
from .source import open_sources
from .updates import Difference, Update

_STALE = ("lorastyle.rank", "lorastyle.alpha")  # what was true of the larger one


@dataclass(frozen=True)
class Shrunk:
    """What became of one module: its ranks, and the relative error of the update (Frobenius norm)."""

    component: str
    path: str
    before: int
    after: int
    error: float


@dataclass(frozen=True)
class Resized:
    """A smaller adapter.

    Attributes:
        modules: of the low-rank updates, in the adapter's order.
        error: of all of them together: the norm of what was left out over that of the whole.
        left_whole: {algorithm: modules} of what is not low rank and stays as it was.
    """

    adapter: Adapter
    modules: tuple[Shrunk, ...]
    error: float
    left_whole: Mapping[str, int]


@dataclass(frozen=True)
class ResizedFile:
    """What was written, as which number types, and how many bytes the source and it have."""

    path: Path
    dtype: str
    bytes_before: int
    bytes_after: int
    resized: Resized


def shrink(
    adapter: Adapter,
    *,
    rank: int | None = None,
    energy: float | None = None,
    numbers: int | None = None,
    partial: bool = False,
) -> Resized:
    """Lower the ranks of an adapter's low-rank updates, each to the nearest update of its new rank
    (Eckart-Young), by thin QR: no dense matrix is formed. LoHa that is read as low rank is one of them.

    Args:
        rank: at most so much everywhere.
        energy: the share of squared singular values that each module keeps (`by_energy`).
        numbers: at most so many in all factors together (`by_numbers`).
        partial: leave what is not low rank as it is, where there is such; otherwise it is an error. Norm
            layers and biases are small and always stay.

    Raises:
        ConfigError: not just one of `rank`, `energy` and `numbers`.
        AdapterError: nothing is low rank, something else is, or a number is out of range.
    """
    if [rank, energy, numbers].count(None) != 2:
        raise ConfigError("Say one of rank, energy and size: how small the adapter is to be.")
    others = Counter(update.algorithm for _, _, update in adapter.dense_updates() if not _is_vector(update))
    if others and not partial:
        listed = ", ".join(f"{n} of {what}" for what, n in others.items())
        raise AdapterError(
            f"Not every update of {adapter.name!r} is low rank ({listed}), so it has no smaller rank. "
            "Nothing was written; ask for a partial resize to leave those as they are."
        )
    spectra = {(component, path): u.spectrum() for component, path, u in adapter.updates()}
    if not spectra:
        raise AdapterError(f"{adapter.name!r} has no low-rank update, so it has no smaller rank.")
    if rank is not None:
        kept = uniform(spectra, rank)
    elif energy is not None:
        kept = by_energy(spectra, energy)
    else:
        kept = by_numbers(spectra, numbers or 0)
    return _cut(adapter, spectra, kept, dict(others))


def _is_vector(update: Update) -> bool:
    """A norm layer or a bias: small, and always kept."""
    return isinstance(update, Difference) and (update.weight is None or update.weight.ndim == 1)


def _cut(
    adapter: Adapter,
    spectra: Mapping[tuple[str, str], Spectrum],
    kept: Mapping[tuple[str, str], int],
    left_whole: Mapping[str, int],
) -> Resized:
    components: dict[str, dict[str, LowRank]] = {component: {} for component in adapter.components}
    modules: list[Shrunk] = []
    for (component, path), spectrum in spectra.items():
        update = adapter.components[component][path]
        before, after = update.rank, kept[component, path]
        # what keeps its rank keeps its bits
        components[component][path] = update if after >= before else spectrum.cut(after)
        error = spectrum.error(after) if after < before else 0.0
        modules.append(Shrunk(component, path, before, after, error))
    error = error_of([(spectrum, kept[place]) for place, spectrum in spectra.items()])
    metadata = {key: value for key, value in adapter.metadata.items() if key not in _STALE}
    told = {"from_rank": max(m.before for m in modules), "relative_error": round(error, 6)}
    metadata["lorastyle.resized"] = json.dumps(told)
    smaller = replace(adapter, components=components, metadata=metadata)
    return Resized(smaller, tuple(modules), error, left_whole)


def resize_adapter(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    rank: int | None = None,
    energy: float | None = None,
    most_bytes: int | None = None,
    dtype: str | None = None,
    modules: Modules | None = None,
    partial: bool = False,
    private: bool = False,
) -> ResizedFile:
    """Write a smaller one of the adapter at `source` to `target`, in kohya's names; see `shrink`.

    Args:
        most_bytes: of the file, header and all.
        dtype: see `save_adapter`; None keeps the commonest number type of the source.
        modules: of the base, as for `load_adapter`; None asks `known_modules`.
        private: see `save_adapter`.

    Raises:
        ConfigError, AdapterError: see `shrink`; or some of the source cannot be read and `partial` is not
            asked for.
        AdapterFileError: a file is damaged, cannot be written, or is there already.
    """
    source, target = Path(source), free_target(target)
    adapter, _ = load_whole(source, modules or known_modules(source), partial=partial)
    dtype = dtype or own_dtype(source)
    adapter = replace(adapter, name=target.stem)
    numbers = None
    if most_bytes is not None:
        numbers = numbers_within(
            most_bytes,
            [update.shape for _, _, update in adapter.updates()],
            name=adapter.name,
            dtype=dtype,
            metadata=adapter.metadata,
            others=other_numbers(adapter),
        )
    while True:
        resized = shrink(adapter, rank=rank, energy=energy, numbers=numbers, partial=partial)
        try:
            saved = save_adapter(resized.adapter, target, dtype=dtype, private=private, most_bytes=most_bytes)
            break
        except TooManyBytes as error:  # some of it had to be stored in float32
            if numbers is not None and most_bytes is not None:
                numbers = numbers * most_bytes // error.bytes
    before = sum(part.header.file_bytes for part in open_sources(source))
    return ResizedFile(saved, written_dtypes(saved), before, saved.stat().st_size, resized)
