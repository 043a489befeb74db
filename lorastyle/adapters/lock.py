"""A lock on a file that ends with the process, however it ends."""

from __future__ import annotations

import sys
from typing import BinaryIO


def lock_file(file: BinaryIO, *, shared: bool = False) -> bool:
    """Take the open file's lock, which closing it gives back; false where another has it.

    Only an exclusive lock refuses a shared one; Windows has no other.
    """
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
