"""RunStatus: what a run is at, as data for a page, a service or a notebook."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

State = Literal[
    "none", "queued", "preparing", "training", "finishing", "finished", "stopped", "failed", "crashed"
]
ACTIVE: frozenset[State] = frozenset({"queued", "preparing", "training", "finishing"})


@dataclass(frozen=True)
class RunStatus:
    """A run, as seen from outside.

    Attributes:
        state: "none" (there is no run), "queued" (a process was started and has not got to the folder yet),
            "preparing", "training", "finishing" (the adapter is written, the sheet is drawn), "finished",
            "stopped" (by request, between two steps), "failed" (with `error`), or "crashed" (the process is
            gone and left no word: it was killed, memory was full, the machine was switched off).
        stopping: a living run was asked to stop.
        rows: the plan as (what, value); empty until it is made.
        what, done, total: what is being prepared or drawn, and how far it is.
        step, steps: optimiser steps done, of how many; 0 until known.
        losses: (step, loss), in order; after a resume those before it too.
        seconds_left: from now, by the last measurement; None where it is not known.
        images_per_second: own pictures; None until measured.
        samples: sample pictures on the way, in order.
        warnings: what a person should know.
        error: why a failed or crashed run ended, and the next step.
        adapter, sheet: the files that an ended run wrote.
        can_resume: nothing is at work, and a checkpoint of this run is there.
        changed: when the run last said something, in seconds since 1970.
        seconds: how long an ended run took.
    """

    name: str
    path: Path
    state: State
    stopping: bool = False
    trigger: str = ""
    rows: tuple[tuple[str, str], ...] = ()
    what: str = ""
    done: int = 0
    total: int = 0
    step: int = 0
    steps: int = 0
    losses: tuple[tuple[int, float], ...] = field(default=(), repr=False)
    seconds_left: float | None = None
    images_per_second: float | None = None
    samples: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str = ""
    adapter: Path | None = None
    sheet: Path | None = None
    can_resume: bool = False
    changed: float = 0.0
    seconds: float | None = None

    @property
    def active(self) -> bool:
        """Whether a process is at work."""
        return self.state in ACTIVE
