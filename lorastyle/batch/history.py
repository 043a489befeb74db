"""What earlier runs wrote down in `results*.jsonl`, and whether the pictures are still as they were."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lorastyle.adapters import file_hash

from .names import is_inside

RESULTS = re.compile(r"results(-\d{1,6}-of-\d{1,6})?\.jsonl")

State = Literal["new", "drawn", "missing", "damaged", "failed"]


@dataclass(frozen=True)
class Kept:
    """A file as it was when it was written.

    Attributes:
        file: below the batch's folder, its parts separated by `/`.
        sha256: of its bytes, in hex digits.
        bytes: how many.
        modified: in nanoseconds; while it and the size are the same, the file is not read again.
    """

    file: str
    sha256: str
    bytes: int
    modified: int

    @classmethod
    def of(cls, path: Path, file: str) -> Kept:
        """What is at `path`, to be kept as `file`."""
        about = path.stat()
        return cls(file, file_hash(path), about.st_size, about.st_mtime_ns)

    def state(self, folder: Path, *, read: bool = False) -> Literal["drawn", "missing", "damaged"]:
        """Whether the file is as it was; `read` compares its bytes whatever its size and time say."""
        path = folder / self.file
        try:
            about = path.stat()
            if not path.is_file():
                return "missing"
            if about.st_size != self.bytes:
                return "damaged"
            if about.st_mtime_ns == self.modified and not read:
                return "drawn"
            return "drawn" if file_hash(path) == self.sha256 else "damaged"
        except FileNotFoundError:
            return "missing"
        except OSError:  # it cannot be read
            return "damaged"


@dataclass
class History:
    """What has been drawn in a folder, by all of its shards.

    Attributes:
        drawn: {id of a job: its pictures, the latest last}.
        failed: {id of a job: why}.
        sheets: {file: {hash: whose}} of the sheets that batches made here.
        unread: how many lines could not be read; a killed process may leave one.
    """

    folder: Path
    drawn: dict[str, list[Kept]] = field(default_factory=dict[str, list[Kept]])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    sheets: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    unread: int = 0

    @classmethod
    def read(cls, folder: Path) -> History:
        """Of a folder that need not be there."""
        history = cls(folder)
        found = folder.iterdir() if folder.is_dir() else ()
        for path in sorted(path for path in found if RESULTS.fullmatch(path.name)):
            for line in path.read_bytes().split(b"\n"):
                if line.strip() and not history.take(line):
                    history.unread += 1
        return history

    def take(self, line: bytes) -> bool:
        """Learn from one line; false where it is none."""
        try:
            values: dict[str, Any] = json.loads(line)
            if "error" in values:
                self.failed[str(values["id"])] = str(values["error"])
                return True
            file, sha256 = str(values["file"]), str(values["sha256"])
            kept = Kept(file, sha256, int(values["bytes"]), int(values["modified"]))
            if not is_inside(file):
                return False
            if "sheet" in values:
                self.sheets.setdefault(kept.file, {})[kept.sha256] = str(values["sheet"])
            else:
                self.drawn.setdefault(str(values["id"]), []).append(kept)
                self.failed.pop(str(values["id"]), None)
            return True
        except (ValueError, KeyError, TypeError, RecursionError):
            return False

    def state(self, job: str, *, read: bool = False) -> State:
        """What became of a job: drawn and intact, drawn and lost or damaged, failed, or never tried."""
        states: list[State] = [kept.state(self.folder, read=read) for kept in self.drawn.get(job, [])]
        if "drawn" in states:
            return "drawn"
        if job in self.failed:
            return "failed"
        return states[-1] if states else "new"

    def picture(self, job: str) -> Path | None:
        """The intact picture of a job."""
        for kept in self.drawn.get(job, []):
            if kept.state(self.folder) == "drawn":
                return self.folder / kept.file
        return None
