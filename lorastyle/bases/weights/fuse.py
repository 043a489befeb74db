"""A whole base with adapters added to its weights, tensor by tensor, in the types that it has."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lorastyle.adapters import (
    PartFile,
    Weighted,
    atomic_write,
    check_parts,
    check_space,
    family_title,
    read_weighted,
)
from lorastyle.errors import BaseError, BaseMismatchError

from .as_folder import write_pipeline
from .folders import copied_files
from .stored import StoredBase, open_stored
from .sums import Sums

FUSED_FROM = "lorastyle.fused_from"
"""The key of what was added to a checkpoint, in its metadata."""
_SUFFIX = ".safetensors"
_HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")


@dataclass(frozen=True)
class FusedBase:
    """What was written.

    Attributes:
        modules: how many layers were changed.
        rounding: of the whole change, the share (of its Frobenius norm) that the weights' number type lost.
        words: textual inversions of the adapters, which no base has a place for.
    """

    path: Path
    bytes: int
    modules: int
    rounding: float
    words: tuple[str, ...]


def fuse_base(
    base: str,
    sources: Sequence[PartFile],
    target: str | os.PathLike[str],
    *,
    partial: bool = False,
    on_module: Callable[[int, int], None] | None = None,
) -> FusedBase:
    """Write `base` with the updates of adapters added to its weights, computed in float32.

    A folder becomes a folder and one checkpoint one checkpoint, with the same names and number types; what is
    not changed is copied. One checkpoint may become a folder, too, which takes the memory of the base.

    Args:
        base: as `load_base` takes it.
        target: a folder, or a file that ends in .safetensors. It must not be there yet.
        partial: go on where some of an adapter cannot be read.

    Raises:
        BaseError: the base cannot be read; a folder that is to become one file; or the disk is full.
        BaseMismatchError: an adapter was made for another family.
        AdapterError: see `read_weighted`; or a change that the weights' number type cannot hold.
    """
    target, stored = Path(target), open_stored(base)
    _check_target(target, stored)
    parts = read_weighted(sources, stored.shapes, partial=partial)
    check_parts(parts)
    for part in parts:
        if (family := part.adapter.family) is not None and family != stored.family:
            raise BaseMismatchError(
                f'{part.adapter.name!r} was made for {family_title(family)}, and "{base}" is '
                f"{family_title(stored.family)}. Use it with a base of its own family."
            )
    sums = Sums(stored, parts, on_module)
    try:
        check_space(target, sum(file.stat().st_size for file in stored.headers))
        if target.suffix == _SUFFIX:
            atomic_write(target, sums.file(stored.path, _record(stored, parts)), replace=False)
            _copy_sidecar(stored.path, target)
        else:
            with _new_folder(target) as folder:
                if stored.is_file:
                    write_pipeline(stored, sums, folder)
                else:
                    _copy_folder(stored, sums, folder)
    except OSError as error:
        size = sum(file.stat().st_size for file in stored.headers) / 1e9
        raise BaseError(
            f"{target} was not written: {error.strerror or error}. It needs {size:.2f} GB. Choose another "
            "place."
        ) from error
    files = [target] if target.is_file() else [file for file in target.rglob("*") if file.is_file()]
    words = tuple(dict.fromkeys(word for part in parts for word in part.adapter.words))
    return FusedBase(target, sum(f.stat().st_size for f in files), sums.modules, sums.rounding, words)


def _check_target(target: Path, base: StoredBase) -> None:
    if target.suffix == _SUFFIX and not base.is_file:
        raise BaseError(
            f'The base "{base.name}" is a folder, and only what is one file can become one. Give --out a '
            "folder, or take the base as one checkpoint."
        )
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise BaseError(f"{target} is there already. Give a name that is free.")


def _record(base: StoredBase, parts: Sequence[Weighted]) -> dict[str, str]:
    kept = {k: v for k, v in base.headers[base.path].metadata.items() if k not in _HASHES}
    return {**kept, FUSED_FROM: ", ".join(map(str, parts))}


def _copy_sidecar(source: Path, target: Path) -> None:
    """The .yaml beside a checkpoint may say what its UNet predicts."""
    sidecar, there = source.with_suffix(".yaml"), target.with_suffix(".yaml")
    if sidecar.is_file() and not there.exists():
        shutil.copyfile(sidecar, there)


def _copy_folder(base: StoredBase, sums: Sums, target: Path) -> None:
    for file, place in copied_files(base.path):
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        if file in base.headers:
            atomic_write(target / place, sums.file(file, base.headers[file].metadata))
        else:
            shutil.copyfile(file, target / place)


@contextmanager
def _new_folder(target: Path) -> Generator[Path]:
    """A folder to write into, which gets its name when all is in it; otherwise nothing is left of it."""
    target = Path(os.path.abspath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".lorastyle-{secrets.token_hex(8)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            target.rmdir()  # it was empty
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
