"""The checkpoint file that a base was loaded from, and the hash by which others know it."""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lorastyle.adapters import atomic_write, file_hash

from .cache import cache_folder

DIGITS = 10


@dataclass(frozen=True)
class LoadedFile:
    """A file as it was when it was loaded; written anew, it is another one."""

    path: Path
    size: int
    modified: int  # nanoseconds

    @classmethod
    def of(cls, path: Path) -> LoadedFile:
        path = path.resolve()
        about = path.stat()
        return cls(path, about.st_size, about.st_mtime_ns)

    @cached_property
    def hash(self) -> str | None:
        """First 10 hex digits of the whole file's sha256, as A1111 and Civitai (AutoV2) take it of models;
        None where the file is gone or another by now.

        It takes a second for two gigabytes, so it is kept in the cache folder: once for each file.
        """
        kept = cache_folder() / "hashes" / hashlib.sha256(repr(self).encode(errors="replace")).hexdigest()
        digest = self._known(kept) or self._made(kept)
        return None if digest is None else digest[:DIGITS]

    def _known(self, kept: Path) -> str | None:
        try:
            digest = kept.read_text("ascii")
        except (OSError, UnicodeDecodeError):  # not there yet, or damaged: made again
            return None
        return digest if re.fullmatch("[0-9a-f]{64}", digest) and self._unchanged() else None

    def _made(self, kept: Path) -> str | None:
        try:
            digest = file_hash(self.path)
        except OSError:
            return None
        if not self._unchanged():
            return None
        with contextlib.suppress(OSError):  # a full or read-only disk costs the same time again, no picture
            atomic_write(kept, digest.encode())
        return digest

    def _unchanged(self) -> bool:
        try:
            return LoadedFile.of(self.path) == self
        except OSError:
            return False
