"""Adapter files into one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorastyle.errors import AdapterError, BaseMismatchError

from ..architectures import family_modules
from ..block_weights import BlockWeights
from ..convert import free_target, known_modules, load_whole, own_dtype, written_dtypes
from ..families import family_title
from ..file_room import numbers_within
from ..info import read_info
from ..load import Modules
from ..save import TooManyBytes, save_adapter
from ..source import model_hash
from .merge import merge
from .place import places
from .result import Merged
from .settings import MergeSettings
from .weighted import Weighted, Weights

_PER_PART = 400  # bytes of the record of one adapter


@dataclass(frozen=True)
class PartFile:
    """An adapter file or peft folder, and how much of it: `te` and `unet` as in `Weighted`, `blocks` as
    `BlockWeights.parse` reads them.
    """

    path: Path
    scale: float = 1.0
    blocks: str | None = None
    te: float | None = None
    unet: float | None = None


@dataclass(frozen=True)
class MergedFile:
    """What was written, and as which number types."""

    path: Path
    dtype: str
    bytes: int
    merged: Merged


def merge_files(
    sources: Sequence[PartFile],
    target: str | os.PathLike[str],
    settings: MergeSettings | None = None,
    *,
    most_bytes: int | None = None,
    dtype: str | None = None,
    modules: Modules | None = None,
    weights: Weights | None = None,
    partial: bool = False,
    on_module: Callable[[int, int], None] | None = None,
) -> MergedFile:
    """Write one adapter that does what several do together, in kohya's names; see `merge`.

    Args:
        most_bytes: of the file, header and all; instead of a rank or an energy in `settings`.
        dtype: see `save_adapter`; None is that of the sources, float16 where they differ.
        modules, weights: see `read_weighted` and `merge`.
        partial: merge what can be read, where that is not all; otherwise it is an error.

    Raises:
        ConfigError, AdapterError, BaseMismatchError: see `merge` and `read_weighted`.
        AdapterFileError: a file is damaged, cannot be written, or is there already.
    """
    target, settings = free_target(target), settings or MergeSettings()
    if most_bytes is not None:  # before anything slow: does it go with the other settings?
        settings = replace(settings, numbers=1)
    parts = read_weighted(sources, modules, partial=partial)
    types = {own_dtype(source.path) for source in sources}
    dtype = dtype or (types.pop() if len(types) == 1 else "float16")
    if most_bytes is not None:
        room = _room(parts, modules, most_bytes, dtype, target.stem)
        settings = replace(settings, numbers=room)
    while True:
        merged = merge(
            parts, settings, name=target.stem, modules=modules, weights=weights, on_module=on_module
        )
        try:
            saved = save_adapter(merged.adapter, target, dtype=dtype, most_bytes=most_bytes)
            break
        except TooManyBytes as error:  # some of it had to be stored in float32
            if settings.numbers is not None and most_bytes is not None:
                settings = replace(settings, numbers=settings.numbers * most_bytes // error.bytes)
    return MergedFile(saved, written_dtypes(saved), saved.stat().st_size, merged)


def read_weighted(
    sources: Sequence[PartFile], modules: Modules | None = None, *, partial: bool = False
) -> list[Weighted]:
    """The adapters of these files, whatever their forms, with names that mean the same in all.

    Args:
        modules: of the base, as for `load_adapter`; None asks `known_modules`.
        partial: take what can be read, where that is not all.

    Raises:
        BaseMismatchError: they were made for different families.
        AdapterError: one is there twice; or some of one cannot be read, and `partial` is not asked for.
        AdapterFileError: a file is damaged.
        ConfigError: see `BlockWeights.parse`.
    """
    if not sources:
        raise AdapterError("Name at least one adapter.")
    hashes: dict[str, Path] = {}
    for source in sources:
        if (twin := hashes.setdefault(model_hash(source.path), source.path)) is not source.path:
            raise AdapterError(
                f"{twin} and {source.path} are the same adapter. Name it once, with the sum of the scales."
            )
    families = {source.path: read_info(source.path).family for source in sources}
    _refuse_strangers(families)
    family = next((family for family in families.values() if family is not None), None)
    if modules is None and family is not None:  # those whose base is known lend it to those whose is not
        modules = family_modules(family)
    parts: list[Weighted] = []
    for source, digest in zip(sources, hashes, strict=True):
        blocks = None if source.blocks is None else BlockWeights.parse(source.blocks, family)
        adapter, _ = load_whole(source.path, modules or known_modules(source.path), partial=partial)
        parts.append(Weighted(adapter, source.scale, blocks, digest, source.te, source.unet))
    return parts


def _refuse_strangers(families: dict[Path, str | None]) -> None:
    named = {family: path for path, family in families.items() if family is not None}
    if len(named) > 1:
        listed = ", ".join(f"{path.name} for {family_title(family)}" for family, path in named.items())
        raise BaseMismatchError(
            f"These adapters were made for different bases: {listed}. Only those of one family go together."
        )


def _room(parts: Sequence[Weighted], modules: Modules | None, most_bytes: int, dtype: str, name: str) -> int:
    found = list(places([part for part in parts if part.is_used], modules))
    vectors = sum(v.parameters for place in found if (v := place.vectors()) is not None)
    words = sum(v.numel() for part in parts for vs in part.adapter.words.values() for v in vs.values())
    return numbers_within(
        most_bytes,
        [place.shape for place in found if not place.is_vector],
        name=name,
        dtype=dtype,
        metadata={"merged from": "x" * _PER_PART * len(parts)},
        others=vectors + words,
    )
