"""Whether the disk has room for what is about to be written, asked before the work rather than at its end."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The disk is full, the quota is used up, or the file is larger than its file system allows."""
TOO_MANY_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def write_advice(error: OSError) -> str:
    """What to do about a file that cannot be written, as the beginning of a sentence."""
    if error.errno in FULL:
        return "Free some disk space"
    if error.errno in TOO_MANY_FILES:
        return "Close other programs, or raise the limit of open files (ulimit -n)"
    if error.errno in _NOT_ALLOWED:
        return "Make the folder writable"
    return "Check the disk and the folder"


@dataclass(frozen=True)
class Lack:
    """A file system that cannot hold what is to be written to it.

    Attributes:
        folder: the first of those that are on it.
        needed, free: bytes.
    """

    folder: Path
    needed: int
    free: int

    def __str__(self) -> str:
        return f"{megabytes(self.needed)} needed, {megabytes(self.free)} free"


def free_space(path: str | os.PathLike[str]) -> int | None:
    """Bytes that can be written at `path`, which need not be there yet.

    None where the system does not say, or says nothing of use: some network and FUSE file systems have a size
    of 0.
    """
    try:
        usage = shutil.disk_usage(existing_parent(Path(path)))
    except OSError:
        return None
    return None if usage.free == 0 and usage.total == 0 else usage.free


def existing_parent(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    path = Path(os.path.abspath(path))
    return next(place for place in (path, *path.parents) if place.exists())


def lack_of_space(writes: Mapping[Path, int]) -> Lack | None:
    """Which file system cannot hold what is to be written, if one cannot.

    Args:
        writes: {file or folder, there or not: bytes}. Those of one file system count together.
    """
    of_device: dict[int, list[tuple[Path, int]]] = {}
    for path, size in writes.items():
        try:
            device = existing_parent(path).stat().st_dev
        except OSError:  # it went away meanwhile: writing will tell
            continue
        of_device.setdefault(device, []).append((path, size))
    for group in of_device.values():
        (folder, _), needed = group[0], sum(size for _, size in group)
        free = free_space(folder)
        if free is not None and needed > free:
            return Lack(folder, needed, free)
    return None


def check_space(path: str | os.PathLike[str], size: int) -> None:
    """Can `size` bytes be written to `path`, a file that may be there already and is replaced by a new one?

    Raises:
        OSError: ENOSPC, as the writing itself would end, with how much is needed and how much is free.
    """
    if (lack := lack_of_space({Path(path): size})) is not None:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {lack}", os.fspath(path))


def megabytes(count: int) -> str:
    """ "37.7 MB", "2.1 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
