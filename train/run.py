"""The folder of a run, beside the adapter: settings, log, samples, checkpoint. One run at a time has it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from lorastyle.adapters import atomic_write
from lorastyle.errors import ConfigError, TrainingError

from .lock import take


class RunFolder:
    """`<name>.run/` beside `<name>.safetensors`.

    Attributes:
        path: the folder.
        settings: run.toml, the resolved settings.
        log: log.jsonl, one line a step: step, loss, lr.
        events: events.jsonl, what the newest process told; see `Journal`.
        lock: held by the process that is at work, whose id it says nothing about.
        stop: a file of this name asks the run to end after the step it is at.
        output: output.log, what a process without a terminal printed.
        asked: asked.toml, the settings that such a process was started with.
        checkpoint: checkpoint.safetensors. An older run's is kept as `kept`, checkpoint.old.safetensors.
        stopped: stopped.safetensors, the adapter of a stopped run whose `out` holds a finished one.
        samples: a folder of step-000100.png.
    """

    def __init__(self, adapter: Path) -> None:
        self.adapter = adapter
        self.path = adapter.with_suffix(".run")
        self.settings = self.path / "run.toml"
        self.log = self.path / "log.jsonl"
        self.events = self.path / "events.jsonl"
        self.lock = self.path / "lock"
        self.stop = self.path / "stop"
        self.output = self.path / "output.log"
        self.asked = self.path / "asked.toml"
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.kept = self.path / "checkpoint.old.safetensors"
        self.stopped = self.path / "stopped.safetensors"
        self.samples = self.path / "samples"
        self._file: TextIO | None = None

    @contextmanager
    def claimed(self) -> Generator[None]:
        """Hold the folder for one run; a process that is killed lets go of it.

        Raises:
            ConfigError: the adapter or the folder cannot be written there.
            TrainingError: another run holds it.
        """
        if self.adapter.is_dir():
            raise ConfigError(
                f'out: "{self.adapter}" is a folder; name a file in it, ending in .safetensors.'
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for folder in (self.path, self.adapter.parent):
                tempfile.TemporaryFile(dir=folder).close()
            file = take(self.lock)
        except OSError as error:
            where = error.filename or self.path
            why = f"{where} cannot be written ({error.strerror or error})"
            raise ConfigError(f'out: "{self.adapter}": {why}. Choose another --out.') from error
        try:
            if file is None:
                raise TrainingError(
                    f"Another training writes to {self.path}. Wait for its end, or give another --out."
                )
            with file:
                self.stop.unlink(missing_ok=True)  # meant for a run that was killed since
                try:
                    yield
                finally:
                    for left in (self.stop, self.lock):  # they matter while the run goes on, not as files
                        with suppress(OSError):
                            left.unlink()
        finally:
            with suppress(OSError):  # not empty: a run was here
                self.path.rmdir()

    def open(self, settings: str, done: int) -> None:
        """Make the folder; keep the log's and samples' first `done` steps, and set older work aside."""
        self.samples.mkdir(parents=True, exist_ok=True)
        for picture in self.samples.glob("step-*.png"):
            if _number(picture) > done:
                picture.unlink()
        if not done and self.checkpoint.exists():
            os.replace(self.checkpoint, self.kept)
        kept = self.log.read_text(encoding="utf-8").splitlines()[:done] if self.log.exists() else []
        atomic_write(self.log, "".join(line + "\n" for line in kept).encode())
        atomic_write(self.settings, settings.encode())
        self._file = self.log.open("a", encoding="utf-8", buffering=1)

    def write(self, step: int, loss: float, lr: float) -> None:
        """Add a line to the log."""
        if self._file is not None:
            self._file.write(json.dumps({"step": step, "loss": round(loss, 6), "lr": lr}) + "\n")

    def sample(self, step: int) -> Path:
        """Where the sample picture of a step goes."""
        return self.samples / f"step-{step:06d}.png"

    def close(self) -> None:
        """Close the log."""
        if self._file is not None:
            file, self._file = self._file, None
            with suppress(OSError):  # of a full disk, which was told when a line could not be written
                file.close()


def _number(picture: Path) -> int:
    digits = picture.stem.removeprefix("step-")
    return int(digits) if digits.isdigit() else 0
