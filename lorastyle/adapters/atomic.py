"""Writing a file so that it is either the old one or the whole new one, whatever happens in between."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path


def atomic_write(
    path: str | os.PathLike[str],
    data: bytes | Iterable[bytes],
    *,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Write `data` to `path` through a temporary file beside it, flushed to the disk and then renamed.

    `check` is called with the temporary file before the rename; what it raises stops the write. A failure of
    any kind leaves `path` as it was and removes the temporary file (a killed process leaves a hidden `.tmp`).
    Parent folders are made; a symbolic link is followed.

    Raises:
        OSError: the disk is full, the folder cannot be written to, `path` is a folder.
    """
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        # "xb" rather than mkstemp, which would make the file unreadable to others whatever the umask says
        with temporary.open("xb") as file:
            for block in (data,) if isinstance(data, bytes) else data:
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
