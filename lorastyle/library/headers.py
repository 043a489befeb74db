"""What is known of files from their headers, kept between processes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorastyle.adapters import Glance, atomic_write, glance

from .folders import home

_VERSION = 1  # of what is kept; another one is read anew
_MOST = 100_000  # files that are remembered
_READERS = 4


class Headers:
    """Glances by path, good as long as a file's size and time of change are the same.

    Args:
        store: the file that keeps them; None is `headers.json` in LORASTYLE_HOME. It may be missing, damaged
            or not writable: then headers are read again.

    What has a problem is not kept: it may be one of permissions, which no time of change shows. Processes
    that write at the same time lose at most what the other has learnt, which is read again.
    """

    def __init__(self, store: Path | None = None) -> None:
        self._store = home() / "headers.json" if store is None else store
        self._known: dict[str, tuple[int, int, Glance]] | None = None

    def of(self, files: Iterable[tuple[str, os.stat_result]]) -> dict[str, Glance]:
        """{path: its glance}. Headers that are new or have changed are read, and all is written back."""
        if self._known is None:
            self._known = self._read()
        stamps = {path: (status.st_size, status.st_mtime_ns) for path, status in files}
        found = {
            path: known[2]
            for path, stamp in stamps.items()
            if (known := self._known.get(path)) is not None and known[:2] == stamp
        }
        unknown = [path for path in stamps if path not in found]
        with ThreadPoolExecutor(_READERS) as pool:  # a disk, or a network, is waited for meanwhile
            looked = dict(zip(unknown, pool.map(glance, unknown), strict=True))
        found |= looked
        learnt = {path: (*stamps[path], told) for path, told in looked.items() if not told.problem}
        if learnt:
            self._known = self._merged({**self._read(), **learnt}, {os.path.dirname(path) for path in found})
            self._write()
        return found

    def _merged(
        self, known: dict[str, tuple[int, int, Glance]], folders: set[str]
    ) -> dict[str, tuple[int, int, Glance]]:
        """Without files that are gone from the folders that were just looked at."""
        kept = {
            path: value
            for path, value in known.items()
            if os.path.dirname(path) not in folders or os.path.exists(path)
        }
        return dict(list(kept.items())[-_MOST:])

    def _read(self) -> dict[str, tuple[int, int, Glance]]:
        try:
            content: Any = json.loads(self._store.read_bytes())
            if content["version"] != _VERSION:
                return {}
            return {
                path: (int(size), int(modified), _glance(words))
                for path, (size, modified, words) in content["files"].items()
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}  # a cache: what cannot be read is not there

    def _write(self) -> None:
        files = {path: [s, m, _words(told)] for path, (s, m, told) in (self._known or {}).items()}
        data = json.dumps({"version": _VERSION, "files": files}, separators=(",", ":")).encode()
        with contextlib.suppress(OSError):  # no room, or no permission: the next process reads headers again
            atomic_write(self._store, data)


_EMPTY = asdict(Glance())


def _words(told: Glance) -> dict[str, object]:
    return {key: value for key, value in asdict(told).items() if value != _EMPTY[key]}


def _glance(words: Mapping[str, Any]) -> Glance:
    lists: dict[str, Any] = {key: tuple(words[key]) for key in ("ranks", "tags") if key in words}
    return Glance(**{**words, **lists})
