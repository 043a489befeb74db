"""Adapters that were removed. They wait in `.trash` of their own folder, so that moving them is instant."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from lorastyle.errors import AdapterError, near_miss

from .beside import check_free, check_idle, move_together
from .folders import SUFFIX, adapter_folders, distinct
from .names import in_library
from .tags import changing, move_tags
from .titles import bare

TRASH = ".trash"


@dataclass(frozen=True)
class Removed:
    """An adapter in the trash.

    Attributes:
        name: what it was called.
        path: where it is now.
        folder: where it was, and goes back to.
        when: seconds since 1970.
        size: bytes.
    """

    name: str
    path: Path
    folder: Path
    when: float
    size: int


def remove(name: str) -> Removed:
    """Move the adapter that `name` means, and what belongs to it, to the trash.

    Raises:
        AdapterError: there is none in the library, it cannot be moved, or a training is about to write it.
    """
    with changing() as tags:
        path = in_library(name)
        check_idle(path)
        now = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
        place = path.parent / TRASH / f"{stamp}-{secrets.token_hex(4)}"
        target = place / path.name
        try:
            place.mkdir(parents=True)
            move_together(path, target)
            size = target.lstat().st_size
        except OSError as error:
            _remove_if_empty(place)
            raise AdapterError(f"{path} cannot be moved to the trash ({error.strerror or error}).") from error
        move_tags(tags, path, target)
    return Removed(bare(path.name), target, path.parent, now, size)


def list_removed() -> list[Removed]:
    """What the trash of each library folder holds, newest first."""
    found: list[Removed] = []
    for folder in distinct(adapter_folders()):
        for file in (folder / TRASH).glob(f"*/*{SUFFIX}"):
            try:
                when, size = file.parent.stat().st_mtime_ns / 1e9, file.lstat().st_size
            except OSError:  # put back since it was listed
                continue
            found.append(Removed(bare(file.name), file, folder, when, size))
    return sorted(found, key=lambda removed: removed.when, reverse=True)


def restore(name: str) -> Path:
    """Put the adapter of that name which was removed last back to where it was.

    Raises:
        AdapterError: the trash holds none, or another one has its name by now.
    """
    name = bare(name)
    with changing() as tags:
        there = list_removed()
        removed = next((item for item in there if item.name == name), None)
        if removed is None:
            names = list(dict.fromkeys(item.name for item in there))
            listed = f"{', '.join(names[:20])}{', ...' if len(names) > 20 else ''}"
            holds = f"It holds {listed}." if names else "It is empty."
            raise AdapterError(f'There is no "{name[:200]}" in the trash. {holds}{near_miss(name, names)}')
        target = removed.folder / removed.path.name
        try:
            check_free(removed.folder, removed.name, advice="Rename or remove that one first.")
            move_together(removed.path, target)
        except AdapterError as error:
            raise AdapterError(f'"{name}" cannot be put back. {error}') from error
        except OSError as error:
            raise AdapterError(f"{removed.path} cannot be put back ({error.strerror or error}).") from error
        move_tags(tags, removed.path, target)
        _remove_if_empty(removed.path.parent)
    return target


def _remove_if_empty(place: Path) -> None:
    for folder in (place, place.parent):
        try:
            os.rmdir(folder)
        except OSError:  # something is left in it
            return
