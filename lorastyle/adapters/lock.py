"""A lock on a file that ends with the process, however it ends."""

from __future__ import annotations

import sys
from typing import BinaryIO


def lock_file(file: BinaryIO) -> bool:
    """Take the open file's exclusive lock, which closing it gives back; false where another has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
