"""A lock file that ends with its process, and can be asked about from outside."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from lorastyle.adapters import lock_file

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
            if lock_file(file) and _is_there(file, path):
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
        return not lock_file(file, shared=True)


def _is_there(file: BinaryIO, path: Path) -> bool:
    """False where the holder before removed the file between our opening and our locking it."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    return False
