"""The folder of a batch: its pictures, and one line about each in `results.jsonl`, by one writer.

A picture is written whole in a hidden folder, then its hash is put on record, then it gets its name. Whenever
the process is killed, what has a name is whole and on record: no run takes a stranger's file for its own, and
none draws a picture twice under two names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from lorastyle.adapters import atomic_write, file_hash, lock_file, move_new, write_advice
from lorastyle.errors import ConfigError, PictureError
from lorastyle.generate import save_picture

from .history import History, Kept
from .names import with_suffix
from .resolve import Job

if TYPE_CHECKING:
    from lorastyle.generate import Picture


class Results:
    """Writes pictures and the record of them.

    Attributes:
        folder: where the pictures are.
        history: what was drawn there, kept up to date.
    """

    def __init__(self, folder: Path, file: BinaryIO, hidden: Path) -> None:
        self.folder = folder
        self.history = History.read(folder)
        self._file, self._hidden = file, hidden

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, shard: tuple[int, int] = (1, 1)) -> Generator[Results]:
        """Claim a shard of a folder; a process that is killed lets go of it.

        Raises:
            ConfigError: another run has it, or it cannot be written.
        """
        of = f"{shard[0]}-of-{shard[1]}"
        hidden = folder / f".lorastyle-{of}"
        path = folder / ("results.jsonl" if shard == (1, 1) else f"results-{of}.jsonl")
        try:
            hidden.mkdir(parents=True, exist_ok=True)
            lock = (hidden / "lock").open("ab")
        except OSError as error:
            raise ConfigError(
                f"{folder} cannot be written ({error.strerror or error}). Choose another --out."
            ) from error
        with lock:
            if not (lock_file(lock) and _is_same(lock, hidden / "lock")):
                raise ConfigError(
                    f"Another run draws into {folder}. Wait for its end, or give another --out"
                    + ("." if shard == (1, 1) else " or --shard.")
                )
            for left in hidden.iterdir():  # of a run that was killed
                if left.name != "lock":
                    left.unlink()
            try:
                with path.open("ab", buffering=0) as file:
                    if _is_torn(path):
                        file.write(b"\n")
                    yield cls(folder, file, hidden)
            finally:
                with suppress(OSError):  # where open files cannot be removed, it stays, and does no harm
                    shutil.rmtree(hidden)

    def keep(self, job: Job, picture: Picture, seconds: float, *, metadata: bool = True) -> Path:
        """Write a job's picture, under the name of its item where that is free.

        A file of the name that is not this job's is left alone: the picture gets another one. What is left
        of a damaged picture is put aside as `NAME.damaged`.

        Raises:
            PictureError: the folder cannot be written, or there is no such format.
        """
        suffix = PurePosixPath(job.item.name).suffix
        staged = save_picture(picture, self._hidden / f"{job.id}{suffix}", metadata=metadata)
        try:
            for name in self._names(job):
                target, kept = self.folder / name, Kept.of(staged, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                if os.path.lexists(target) and not self._put_aside(job, name):
                    if not target.is_file() or file_hash(target) != kept.sha256:
                        continue
                    kept = Kept.of(target, name)  # the very same, of a run whose record was lost
                self._record(
                    {"id": job.id, "index": job.item.index, **asdict(kept), "seconds": round(seconds, 3)}
                )
                with suppress(FileExistsError):
                    move_new(staged, target)
                    return target
                if kept.state(self.folder) == "drawn":
                    return target
        except OSError as error:
            raise PictureError(
                f"{self.folder / job.item.name} cannot be written ({error.strerror or error}). "
                f"{write_advice(error)} or choose another --out, then run the same command again."
            ) from error
        finally:
            staged.unlink(missing_ok=True)
        raise AssertionError("names do not end")

    def fail(self, job: Job, error: str, seconds: float) -> None:
        """Put on record that a job cannot be drawn, and why."""
        self._record(
            {"id": job.id, "index": job.item.index, "error": error[:2000], "seconds": round(seconds, 3)}
        )

    def sheet(self, name: str, of: str) -> tuple[Path, bool]:
        """Where the sheet `name` of `of` goes, and whether it is there: over an earlier one of the same, but
        over nothing else.
        """
        for candidate in (name, *(with_suffix(name, str(i)) for i in range(2, 1000))):
            target = self.folder / candidate
            if not target.exists():
                return target, False
            if self.history.sheets.get(candidate, {}).get(file_hash(target)) == of:
                return target, True
        raise PictureError(f"{self.folder} holds hundreds of files named {name}. Choose another --out.")

    def keep_sheet(self, name: str, of: str, data: bytes) -> Path:
        """Write a sheet. Raises PictureError where it cannot be written."""
        target, _ = self.sheet(name, of)
        staged = self._hidden / target.name
        try:
            atomic_write(staged, data)
            self._record({"sheet": of, **asdict(Kept.of(staged, target.name))})
            os.replace(staged, target)
        except OSError as error:
            raise PictureError(f"{target} cannot be written ({error.strerror or error}).") from error
        return target

    def _names(self, job: Job) -> Iterator[str]:
        """Where a job's picture may go: where it was, its item's name, that name with its id."""
        yield from dict.fromkeys(
            [*(kept.file for kept in self.history.drawn.get(job.id, [])[-1:]), job.item.name]
        )
        other = with_suffix(job.item.name, job.id[:8])
        yield other
        number = 2
        while True:
            yield with_suffix(other, str(number))
            number += 1

    def _put_aside(self, job: Job, name: str) -> bool:
        """Make way where the file is what is left of this very job's picture."""
        target = self.folder / name
        if not any(kept.file == name for kept in self.history.drawn.get(job.id, [])):
            return False
        others = (kept for id, drawn in self.history.drawn.items() if id != job.id for kept in drawn)
        if not target.is_file() or any(kept.file == name for kept in others):
            return False
        aside, number = target.with_name(f"{target.name}.damaged"), 2
        while aside.exists():
            aside, number = target.with_name(f"{target.name}.damaged-{number}"), number + 1
        os.replace(target, aside)
        return True

    def _record(self, values: dict[str, object]) -> None:
        line = json.dumps(values, ensure_ascii=True).encode() + b"\n"
        try:
            self._file.write(line)
            os.fsync(self._file.fileno())
        except OSError as error:
            raise PictureError(
                f"{self._file.name} cannot be written ({error.strerror or error}). {write_advice(error)}, "
                "then run the same command again."
            ) from error
        self.history.take(line)


def _is_same(file: BinaryIO, path: Path) -> bool:
    """False where the file was removed by a run that just ended."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _is_torn(path: Path) -> bool:
    """Whether the last line has no end: its process was killed, or the disk was full."""
    data = path.stat().st_size
    if not data:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
