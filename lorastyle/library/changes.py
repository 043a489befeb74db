"""Taking adapters into the library, and giving them other names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lorastyle.adapters import atomic_write, check_space, is_adapter_folder, model_hash, read_info
from lorastyle.errors import AdapterError, AdapterFileError

from .beside import check_free, check_idle, companions, move_together, moved_name
from .folders import SUFFIX, adapter_folders, distinct
from .names import in_library
from .tags import changing, move_tags
from .titles import bare, checked_name

_BLOCK = 1 << 20


def add(file: str | os.PathLike[str], *, name: str | None = None) -> Path:
    """Copy an adapter file, and what is kept beside it, into the library; answer with its path there.

    Args:
        name: what to call it; as it is called when None.

    Raises:
        AdapterFileError: it is no adapter file, or changed while it was copied.
        AdapterError: another adapter has that name, or the library cannot be written.
        ConfigError: a name that no file should have.
    """
    file = Path(file)
    if is_adapter_folder(file):
        raise AdapterError(
            f"{file} is a peft folder; the library holds single files. "
            f"`lorastyle convert {file} {file.name}.safetensors` makes one of it."
        )
    read_info(file)  # what is no adapter is refused with its reason
    digest = model_hash(file)
    title = checked_name(bare(file.name) if name is None else name)
    folders = distinct(adapter_folders())
    for folder in folders:
        there = folder / (title + SUFFIX)
        if there.is_file() and model_hash(there) == digest:
            raise AdapterError(f'These weights are in the library already: "{title}", {there}.')
        check_free(folder, title, advice="Give this one another --name.", beside=folder == folders[-1])
    target = folders[-1] / (title + SUFFIX)
    try:
        check_space(target, sum(each.stat().st_size for each in (file, *companions(file))))
        atomic_write(target, _blocks(file), check=lambda copy: _compare(copy, digest, file), replace=False)
        for other in companions(file):
            to = target.with_name(moved_name(other, bare(file.name), title))
            atomic_write(to, _blocks(other), replace=False)
    except FileExistsError as error:
        raise AdapterError(
            f'Another process has just put a "{title}" into {target.parent}. Give this one another --name.'
        ) from error
    except OSError as error:
        raise AdapterError(f"{file} cannot be copied to {target} ({error.strerror or error}).") from error
    return target


def rename(name: str, new: str) -> Path:
    """Give an adapter of the library, and what is beside it, another name; answer with its new path.

    Raises:
        AdapterError: there is none, another one has the new name, or a training is about to write it.
        ConfigError: a name that no file should have.
    """
    title = checked_name(new)
    with changing() as tags:
        path = in_library(name)
        target = path.with_name(title + SUFFIX)
        if target == path:
            return path
        check_idle(path)
        for folder in distinct(adapter_folders()):
            check_free(folder, title, advice="Choose another name.", but=path, beside=folder == path.parent)
        try:
            move_together(path, target)
        except OSError as error:
            raise AdapterError(f"{path} cannot be renamed ({error.strerror or error}).") from error
        move_tags(tags, path, target)
    return target


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while block := source.read(_BLOCK):
            yield block


def _compare(copy: Path, digest: str, file: Path) -> None:
    """The copy is whole, and what was looked at."""
    if model_hash(copy) != digest:
        raise AdapterFileError(f"{file} did not arrive whole. Check the disk, and try again.")
    read_info(copy)
