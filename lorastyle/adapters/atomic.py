"""Writing a file so that it is either the old one or the whole new one, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from .disk_space import check_space

_PREFIX = ".lorastyle-"
_STALE_SECONDS = 3600
_LARGE = 1_000_000  # bytes


def atomic_write(
    path: str | os.PathLike[str],
    data: bytes | Iterable[bytes],
    *,
    check: Callable[[Path], None] | None = None,
    replace: bool = True,
) -> None:
    """Write `data` to `path` through a temporary file beside it, flushed to the disk and then renamed.

    `check` is called with the temporary file before the rename; what it raises stops the write. A failure of
    any kind leaves `path` as it was and removes the temporary file. A killed process leaves a hidden `.tmp`,
    which the next write to the same folder removes once it is an hour old. Parent folders are made; a
    symbolic link is followed; a file that is there keeps its permissions.

    Args:
        replace: False leaves a file, link or folder that has the name by then as it is.

    Raises:
        FileExistsError: with `replace=False`, the name is taken.
        OSError: the disk is full, the folder cannot be written to, `path` is a folder.
    """
    target = Path(os.path.realpath(path) if replace else os.path.abspath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target.parent)
    if (size := _size(data)) >= _LARGE:  # rather than filling the disk to its last block for nothing
        check_space(target, size)
    temporary = target.with_name(f"{_PREFIX}{secrets.token_hex(8)}.tmp")
    try:
        # "xb" rather than mkstemp, which would make the file unreadable to others whatever the umask says
        with temporary.open("xb") as file:
            for block in (data,) if isinstance(data, bytes) else data:
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):  # no file there yet, or a system without permissions
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        if check is not None:
            check(temporary)
        if replace:
            os.replace(temporary, target)
        else:
            move_new(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # the file is there; some network file systems cannot promise more
        _flush_folder(target.parent)


def _size(data: bytes | Iterable[bytes]) -> int:
    """Bytes; 0 of what is made on the way."""
    if isinstance(data, bytes):
        return len(data)
    return sum(map(len, data)) if isinstance(data, Collection) else 0


def move_new(source: Path, target: Path) -> None:
    """Give a file of the same file system another name, but never that of a file that is there.

    A symbolic link is moved itself, not what it leads to.

    Raises:
        FileExistsError: there is one; nothing has changed.
        OSError: it cannot be moved.
    """
    try:
        os.link(source, target, follow_symlinks=os.link not in os.supports_follow_symlinks)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name, then put the file under it
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(source, target)
        except OSError:
            target.unlink()
            raise
    else:
        source.unlink()


def _remove_stale(folder: Path) -> None:
    """Temporary files of processes that were killed; a living one is never an hour old."""
    for left in folder.glob(f"{_PREFIX}*.tmp"):
        with contextlib.suppress(OSError):  # another process was quicker, or it is not ours to remove
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
