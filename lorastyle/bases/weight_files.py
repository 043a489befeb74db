"""The files that a base was loaded from, as they were then: the same files are the same weights."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from .folder import COMPONENTS

_TICK = 20_000_000  # nanoseconds between two values of the clock that file systems use, at most
_SECOND = 1_000_000_000


@dataclass(frozen=True)
class WeightFiles:
    """What the file system says of each file of a base.

    Attributes:
        path: the checkpoint, or the folder of the pipeline.
        about: for each file its real path, size, times of change (of its bytes, and of anything about it,
            which no program can set), inode and device.
        seen: when that was read, in nanoseconds since 1970.
    """

    path: Path
    about: tuple[tuple[str, int, int, int, int, int], ...]
    seen: int

    @classmethod
    def of(cls, path: Path) -> WeightFiles:
        """Of a checkpoint, or of a pipeline's folder.

        Raises:
            OSError: a file cannot be looked at.
        """
        seen, files = time.time_ns(), [path]
        if path.is_dir():
            inside = (path / part for part in COMPONENTS)
            files = sorted(f for folder in inside if folder.is_dir() for f in folder.iterdir() if f.is_file())
        return cls(path, tuple(_about(file) for file in files), seen)

    @property
    def are_unchanged(self) -> bool:
        """Whether they are as they were."""
        try:
            return WeightFiles.of(self.path).about == self.about
        except OSError:
            return False

    @property
    def are_settled(self) -> bool:
        """Whether any later change would show. One at the same tick of the file system's clock would not."""
        changed = [time for _, _, *times, _, _ in self.about for time in times]
        tick = 2 * _SECOND if all(time % _SECOND == 0 for time in changed) else _TICK
        return self.seen - max(changed, default=0) > tick

    @property
    def digest(self) -> str:
        """64 hex digits that other files, or these after a change, do not have."""
        return hashlib.sha256(json.dumps(self.about).encode()).hexdigest()


def _about(file: Path) -> tuple[str, int, int, int, int, int]:
    found = file.stat()
    return (
        os.path.realpath(file),
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_ino,
        found.st_dev,
    )
