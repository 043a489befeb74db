"""Everything in the library folders, told from headers that are read once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorastyle.adapters import Glance
from lorastyle.errors import AdapterError
from lorastyle.notes import note

from .folders import SUFFIX, adapter_folders, distinct
from .headers import Headers
from .tags import Tags, read_tags


@dataclass(frozen=True)
class Entry:
    """A file in a library folder.

    Attributes:
        name: what it is called, on the command line and in requests.
        path: absolute.
        size: bytes.
        modified: nanoseconds since 1970.
        told: what its header says; `told.problem` is why it cannot be used.
        tags: the user's, and those in the file.
        hidden: an earlier folder holds a file of the same name, which is the one that the name means.
    """

    name: str
    path: Path
    size: int
    modified: int
    told: Glance
    tags: tuple[str, ...]
    hidden: bool

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "path": str(self.path),
            "bytes": self.size,
            "modified": self.modified // 10**9,
            "family": self.told.family,
            "trigger": self.told.trigger or None,
            "ranks": list(self.told.ranks),
            "hash": self.told.hash or None,
            "tags": list(self.tags),
            "hidden": self.hidden,
            "problem": self.told.problem or None,
        }


def list_adapters(folders: Sequence[Path] | None = None, *, headers: Headers | None = None) -> list[Entry]:
    """The adapters in `folders` (default: `adapter_folders()`), by name; hidden ones follow what hides them.

    Warns where the user's tags cannot be read, and goes on without them.
    """
    folders = adapter_folders() if folders is None else folders
    files = [file for folder in distinct(folders) for file in _files(folder)]
    told = (headers or Headers()).of(files)
    tags = {str(path): words for path, words in _tags().items()}
    entries: list[Entry] = []
    seen: set[str] = set()
    for path, status in files:
        name = os.path.basename(path).removesuffix(SUFFIX)
        own = tuple(dict.fromkeys((*tags.get(path, ()), *told[path].tags)))
        entries.append(
            Entry(name, Path(path), status.st_size, status.st_mtime_ns, told[path], own, hidden=name in seen)
        )
        seen.add(name)
    return sorted(entries, key=lambda entry: (entry.name.lower(), entry.name))


def _tags() -> Tags:
    try:
        return read_tags()
    except AdapterError as error:
        note(str(error), stacklevel=3)
        return {}


def _files(folder: Path) -> list[tuple[str, os.stat_result]]:
    """None where there is no such folder, or it cannot be read."""
    found: list[tuple[str, os.stat_result]] = []
    try:
        with os.scandir(folder) as there:
            for file in there:
                if file.name.endswith(SUFFIX) and not file.name.startswith("."):
                    try:
                        if file.is_file():
                            found.append((file.path, file.stat()))
                    except OSError:  # it went away, or it is a link to nowhere
                        continue
    except (OSError, ValueError):
        return []
    return sorted(found, key=lambda item: item[0])
