"""What `fit` tells while it runs. It prints nothing: a command line or a page shows this as it likes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .plan import Plan


@dataclass(frozen=True)
class FitResult:
    """What a run made.

    Attributes:
        adapter: the safetensors file.
        sheet: the picture without and with the adapter; None when the run was stopped before its end.
        toml: the resolved settings, themselves a valid `--config`.
        run: the run's folder (settings, log, samples, checkpoint).
        steps: how many optimiser steps the adapter has seen, those before a resume included.
        seconds: wall clock of this call.
        final_loss: mean loss of the last steps (up to 20); NaN when none was taken.
        interrupted: stopped by Ctrl-C or SIGTERM; `resume=True` goes on.
    """

    adapter: Path
    sheet: Path | None
    toml: Path
    run: Path
    steps: int
    seconds: float
    final_loss: float
    interrupted: bool


@dataclass(frozen=True)
class PlanReady:
    """The plan, before anything slow starts."""

    plan: Plan


@dataclass(frozen=True)
class Preparing:
    """Something slow before the first step: `done` of `total` pictures are encoded or drawn."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Begun:
    """The first step comes next; `step` of `steps` were done before, by a run that goes on."""

    step: int
    steps: int


@dataclass(frozen=True)
class StepDone:
    """One optimiser step. `seconds_left` is measured; None until the first steps have been timed."""

    step: int
    steps: int
    loss: float
    lr: float
    images_per_second: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class SampleDrawn:
    """A sample picture on the way."""

    path: Path


@dataclass(frozen=True)
class Checkpointed:
    """A checkpoint has been written."""

    path: Path


@dataclass(frozen=True)
class Warned:
    """Something that a person should know, and that does not stop the run."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The run is over; its files are written."""

    result: FitResult


Event = PlanReady | Preparing | Begun | StepDone | SampleDrawn | Checkpointed | Warned | Finished
Listener = Callable[[Event], None]
