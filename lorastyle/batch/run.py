"""Jobs to pictures. The three parts know nothing of each other: a list of jobs, a function that draws one
request, and the results that are written by one writer. Where pictures are drawn is `draw`'s affair.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lorastyle.errors import BaseError, LorastyleError
from lorastyle.generate import GenerateRequest

from .expand import Expansion, Item
from .history import History, State
from .order import order, shard
from .places import Problem
from .resolve import Job, resolve
from .results import Results

if TYPE_CHECKING:
    from lorastyle.generate import Engine, Picture

Draw = Callable[[GenerateRequest], "Picture"]


@dataclass(frozen=True)
class Plan:
    """What a run has to do.

    Attributes:
        jobs: all that can be drawn, in the order in which it is, each with what became of it before.
        problems: of the manifest, and of the items that cannot be drawn.
        todo: what is drawn.
    """

    jobs: tuple[tuple[Job, State], ...]
    problems: tuple[Problem, ...]
    todo: tuple[Job, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a job: the path of its picture, or the error."""

    job: Job
    path: Path | None
    error: str | None
    seconds: float


def make_plan(
    expansion: Expansion,
    history: History,
    folder: Path,
    *,
    part: tuple[int, int] = (1, 1),
    retry_failed: bool = False,
    read: bool = False,
) -> Plan:
    """What is left to draw.

    Args:
        expansion: see `expand`.
        history: of the folder that is drawn into.
        folder: where the manifest's relative paths begin.
        part: which shard of how many.
        retry_failed: draw again what failed.
        read: compare the bytes of all pictures, whatever their sizes and times say.
    """
    items: list[Item] = shard(order(expansion.items), *part)
    jobs, problems = resolve(items, folder)
    states: list[tuple[Job, State]] = [(job, history.state(job.id, read=read)) for job in jobs]
    skipped = ("drawn",) if retry_failed else ("drawn", "failed")
    todo = tuple(job for job, state in states if state not in skipped)
    return Plan(tuple(states), (*expansion.problems, *problems), todo)


def run(jobs: Iterable[Job], draw: Draw, results: Results, *, metadata: bool = True) -> Iterator[Outcome]:
    """Draw jobs one by one, each put on record before the next begins. One that fails stops no other.

    Each picture is drawn alone, so that it is the same to the bit whatever else is drawn and wherever a run
    was cut off.

    Raises:
        PictureError: pictures or the record cannot be written.
    """
    for job in jobs:
        start = time.perf_counter()
        try:
            picture = draw(job.request)
        except Exception as error:
            text = str(error) if isinstance(error, LorastyleError) else f"{type(error).__name__}: {error}"
            seconds = time.perf_counter() - start
            results.fail(job, text, seconds)
            yield Outcome(job, None, text, seconds)
            continue
        seconds = time.perf_counter() - start
        yield Outcome(job, results.keep(job, picture, seconds, metadata=metadata), None, seconds)


class Drawer:
    """Draws requests, whatever their base; one base is in memory at a time.

    Args:
        load: makes an engine from the name of a base; None loads the base itself.
        on_step: called as (steps done, steps in all) of each picture.
        mode: of the engine, where it is loaded here.
    """

    def __init__(
        self,
        load: Callable[[str | None], Engine] | None = None,
        on_step: Callable[[int, int], None] | None = None,
        mode: str = "auto",
    ) -> None:
        self._load = load or partial(_load, mode=mode)
        self._on_step = on_step
        self._engine: Engine | None = None
        self._broken: dict[str | None, str] = {}

    def __call__(self, request: GenerateRequest) -> Picture:
        """Draw one picture.

        Raises:
            LorastyleError: the base cannot be loaded, or the request cannot be drawn with it.
        """
        if self._engine is None or request.base not in (None, self._engine.base.name):
            if request.base in self._broken:  # loading it again would take as long, and end the same way
                raise BaseError(self._broken[request.base])
            self._engine = None  # two bases may be more than the memory holds
            gc.collect()
            try:
                self._engine = self._load(request.base)
            except LorastyleError as error:
                self._broken[request.base] = str(error)
                raise
        return self._engine.generate(request, on_step=self._on_step)[0]


def _load(base: str | None, *, mode: str) -> Engine:
    from lorastyle.bases import default_memory, load_base
    from lorastyle.generate import Engine

    return Engine(load_base(base, memory=default_memory()), mode=mode)
