"""The folder of a run, beside the adapter: settings, log, samples, checkpoint."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from lorastyle.adapters import atomic_write


class RunFolder:
    """`<name>.run/` beside `<name>.safetensors`.

    Attributes:
        path: the folder.
        settings: run.toml, the resolved settings.
        log: log.jsonl, one line a step: step, loss, lr.
        checkpoint: checkpoint.safetensors. An older run's is kept as `kept`, checkpoint.old.safetensors.
        stopped: stopped.safetensors, the adapter of a stopped run whose `out` holds a finished one.
        samples: a folder of step-000100.png.
    """

    def __init__(self, adapter: Path) -> None:
        self.path = adapter.with_suffix(".run")
        self.settings = self.path / "run.toml"
        self.log = self.path / "log.jsonl"
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.kept = self.path / "checkpoint.old.safetensors"
        self.stopped = self.path / "stopped.safetensors"
        self.samples = self.path / "samples"
        self._file: TextIO | None = None

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
