"""Where lorastyle keeps things: what is there, how large, and how much room is left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

MOST_FILES = 100_000  # that are counted: a cache set to "/" must not take an hour


@dataclass(frozen=True)
class Place:
    """One folder."""

    what: str  # "adapters", "cache", "hub cache"
    path: str
    exists: bool
    writable: bool  # for a folder that is not there yet: whether it could be made
    files: int
    size: int  # bytes; links are not followed, so that the Hub's cache counts each file once
    counted_all: bool  # False: it holds more than was counted
    free: int  # bytes on that disk


def look_at_places() -> tuple[Place, ...]:
    """The folders of adapters, and the caches."""
    from huggingface_hub.constants import HF_HUB_CACHE

    from lorastyle.bases import cache_folder
    from lorastyle.library import adapter_folders

    folders = [("adapters", folder) for folder in adapter_folders()]
    return tuple(
        look_at(what, folder)
        for what, folder in (*folders, ("cache", cache_folder()), ("hub cache", Path(HF_HUB_CACHE)))
    )


def look_at(what: str, folder: Path, most: int = MOST_FILES) -> Place:
    """One folder, whether it is there or not."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    sizes = list(islice(_sizes(folder), most + 1))
    return Place(
        what,
        str(folder) if folder.is_absolute() else f"./{folder.as_posix()}",
        exists=folder.is_dir(),
        writable=there.is_dir() and os.access(there, os.W_OK),
        files=min(len(sizes), most),
        size=sum(sizes[:most]),
        counted_all=len(sizes) <= most,
        free=shutil.disk_usage(there).free,
    )


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes of every file below; what may not be read, or goes away meanwhile, is passed over."""
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                entry = os.lstat(os.path.join(parent, name))
            except OSError:  # removed since it was listed
                continue
            if not os.path.islink(os.path.join(parent, name)):
                yield entry.st_size
