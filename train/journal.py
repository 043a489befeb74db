"""What a run tells, kept in its folder for whoever watches from outside: events.jsonl.

One JSON object a line, added as things happen and flushed at once. A new process starts the file anew. Lines
have "event" and "time" (seconds since 1970), and besides:

    asked       by whoever starts a process, before it: resume
    spawned     then: pid, created (when the process was made, to know it from a later one of that number)
    started     the process has the folder: pid, resume, name, trigger, steps, rows (the plan as shown)
    preparing   what, done, total
    begun       step (done before, by a run that goes on), steps; from here log.jsonl is this run's
    step        step, steps, images_per_second, seconds_left; now and then: log.jsonl has every one
    sample      file; this and the files below as seen from the folder, which can be moved
    checkpoint  step
    warning     text
    finished    adapter, sheet, steps, seconds, final_loss, interrupted
    stopped     before the first step, with nothing to save
    failed      error, kind (the exception's name)

The last three end a run. Where none of them is there and nobody holds the lock, the process was killed.
Readers skip kinds and keys that they do not know.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from lorastyle.adapters import atomic_write

from .events import (
    Begun,
    Checkpointed,
    Event,
    Finished,
    Preparing,
    SampleDrawn,
    StepDone,
    Warned,
)
from .plan import Plan
from .run import RunFolder

_EVERY = 1.0
_SHARE = 1 / 300  # of the time since the start: a run of days fills no more than some two thousand lines


class Journal:
    """Writes the events of a run; itself a listener."""

    def __init__(self, run: RunFolder, file: TextIO) -> None:
        self._run, self._file = run, file
        self._started, self._told, self._last = time.monotonic(), 0.0, ""
        self._step = 0

    @classmethod
    @contextmanager
    def kept(cls, run: RunFolder, plan: Plan, resume: bool) -> Generator[Journal]:
        """Start the file anew; an exception that comes through is the run's end, and is written down."""
        first = {
            "pid": os.getpid(),
            "resume": resume,
            "name": plan.name,
            "trigger": plan.trigger,
            "steps": plan.steps,
            "rows": plan.describe(),
        }
        atomic_write(run.events, _line("started", first))
        with run.events.open("a", encoding="utf-8", buffering=1) as file:
            journal = cls(run, file)
            try:
                yield journal
            except BaseException as error:
                with suppress(OSError):  # of a full disk, which is the error itself as a rule
                    journal._ended(error)
                raise

    def __call__(self, event: Event) -> None:
        """Write the event, if it is not one of too many."""
        if isinstance(event, Preparing):
            if self._is_due(event.what, event.done == event.total):
                self._write("preparing", {"what": event.what, "done": event.done, "total": event.total})
        elif isinstance(event, Begun):
            self._write("begun", {"step": event.step, "steps": event.steps})
        elif isinstance(event, StepDone):
            self._step = event.step
            if self._is_due("step", event.step == event.steps):
                left, speed = event.seconds_left, event.images_per_second
                self._write(
                    "step",
                    {
                        "step": event.step,
                        "steps": event.steps,
                        "images_per_second": speed,
                        "seconds_left": left,
                    },
                )
        elif isinstance(event, SampleDrawn):
            self._write("sample", {"file": self._named(event.path)})
        elif isinstance(event, Checkpointed):
            self._write("checkpoint", {"step": self._step})
        elif isinstance(event, Warned):
            self._write("warning", {"text": event.text})
        elif isinstance(event, Finished):
            result = event.result
            self._write(
                "finished",
                {
                    "adapter": self._named(result.adapter),
                    "sheet": result.sheet and self._named(result.sheet),
                    "steps": result.steps,
                    "seconds": result.seconds,
                    "final_loss": result.final_loss if math.isfinite(result.final_loss) else None,
                    "interrupted": result.interrupted,
                },
            )

    def _named(self, path: Path) -> str:
        return Path(os.path.relpath(path, self._run.path)).as_posix()

    def _is_due(self, what: str, last: bool) -> bool:
        now = time.monotonic()
        wait = max(_EVERY, (now - self._started) * _SHARE)
        if what == self._last and not last and now - self._told < wait:
            return False
        self._last, self._told = what, now
        return True

    def _ended(self, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._write("stopped", {"text": str(error)})
        else:
            self._write("failed", {"error": str(error) or repr(error), "kind": type(error).__name__})

    def _write(self, event: str, facts: Mapping[str, object]) -> None:
        self._file.write(_line(event, facts).decode())


def start_journal(run: RunFolder, resume: bool) -> None:
    """Before a process is started: the file says so and nothing of the run before."""
    atomic_write(run.events, _line("asked", {"resume": resume}))


def add_to_journal(run: RunFolder, event: str, facts: Mapping[str, object]) -> None:
    """A line from outside the run, such as of the process that was started."""
    with run.events.open("ab") as file:
        file.write(_line(event, facts))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; of a file that is not there, none.

    A torn line, of a process that was killed while writing it, is left out.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in data.split(b"\n"):
        with suppress(ValueError, RecursionError):  # ValueError is also what bytes in no encoding raise
            made: object = json.loads(line) if line else None
            if isinstance(made, dict):
                found.append(cast("dict[str, Any]", made))
    return found


def _line(event: str, facts: Mapping[str, object]) -> bytes:
    """Escapes all but ASCII, so that no torn line ends in half a letter."""
    return json.dumps({"event": event, "time": round(time.time(), 3), **facts}).encode() + b"\n"
