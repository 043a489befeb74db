"""A lock file that ends with its process, and can be asked about from outside."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_TRIES = 5


def take(path: Path) -> BinaryIO | None:
    """The locked file, to be closed when done; None where another process or thread has it.

    Whoever only asks with `is_held` has it for a moment, so a few tries are made.

    Raises:
        OSError: there can be no such file.
    """
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(0.02)
        file = path.open("ab")
        try:
            if _locked(file) and _is_there(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
    return None


def is_held(path: Path) -> bool:
    """Whether a living process has the lock. Asking does not keep anybody from taking it."""
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # somebody else's, who may well be at work
        return True
    with file:
        return not _locked(file, shared=True)


def _locked(file: BinaryIO, *, shared: bool = False) -> bool:
    """Whether the file could be locked. Only an exclusive lock refuses a shared one; Windows has no other."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_there(file: BinaryIO, path: Path) -> bool:
    """False where the holder before removed the file between our opening and our locking it."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    return False
