"""What `batch` and `grid` share: drawing a plan, with a bar and the time left, and saying what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lorastyle.batch import Cell, Drawer, Outcome, Plan, Problem, Results, cost, run
from lorastyle.generate import check_picture_space

from .console import Steps, duration, print_error, say
from .names import near

if TYPE_CHECKING:
    from collections.abc import Callable

    from lorastyle.batch import Job

PARTLY = 3  # the exit code where some pictures could not be drawn
_MOST_TOLD = 50


def tell_problems(problems: Sequence[Problem], manifest: object = "") -> None:
    """What of a manifest cannot be drawn, a line each."""
    for problem in problems[:_MOST_TOLD]:
        print_error(f"{manifest}, {problem}" if manifest else problem.what)
    if len(problems) > _MOST_TOLD:
        print_error(f"and {len(problems) - _MOST_TOLD:,} more problems.")


def draw_plan(
    plan: Plan, results: Results, *, metadata: bool = True, as_json: bool = False, mode: str = "auto"
) -> list[Outcome]:
    """Draw what a plan has to do. Tells each file (or a JSON line of it), failures, progress and time left.

    Raises:
        PictureError: the disk has no room for them.
        KeyboardInterrupt: Ctrl-C; its text says how much there is, and how to go on.
    """
    wanted = ((job.request, PurePosixPath(job.item.name).suffix) for job in plan.todo)
    check_picture_space(results.folder, wanted)
    outcomes: list[Outcome] = []
    try:
        with _Progress(plan, silent=as_json) as progress:
            drawer = Drawer(on_step=progress.step, mode=mode)
            for outcome in run(plan.todo, drawer, results, metadata=metadata):
                outcomes.append(outcome)
                progress.done(outcome)
                if as_json:
                    print(json.dumps(_as_line(outcome), ensure_ascii=False), flush=True)
    except KeyboardInterrupt:
        kept = sum(outcome.path is not None for outcome in outcomes)
        raise KeyboardInterrupt(
            f"stopped: {kept:,} of {len(plan.todo):,} are drawn and kept; the same command goes on."
        ) from None
    return outcomes


def tell_outcome(
    plan: Plan, outcomes: Sequence[Outcome], folder: Path, tell: Callable[[str], None] = say
) -> int:
    """The last line of a run, and its exit code."""
    drawn = sum(outcome.path is not None for outcome in outcomes)
    now_failed = len(outcomes) - drawn
    states = [state for _, state in plan.jobs]
    tried = {job.id for job in plan.todo}
    before = sum(state == "failed" and job.id not in tried for job, state in plan.jobs)
    parts = [
        f"{drawn:,} drawn",
        *([f"{states.count('drawn'):,} there already"] if "drawn" in states else []),
        *([f"{now_failed:,} failed"] if now_failed else []),
        *([f"{before:,} failed before"] if before else []),
        *([f"{len(plan.problems):,} problems told above"] if plan.problems else []),
    ]
    tell(f"{', '.join(parts)}: {near(folder.absolute())}")
    if now_failed or before:
        tell("next: the same command with --retry-failed tries again what failed")
    return PARTLY if now_failed or before or plan.problems else 0


def cell_of(job: Job, results: Results, note: str) -> Cell:
    """A job as it stands on a sheet: its picture and `note`, or why there is none."""
    path = results.history.picture(job.id)
    error = results.history.failed.get(job.id, "not drawn")
    return Cell(path, job.item.request.prompt, note if path else error)


class _Progress:
    """The bar: pictures done, steps of the one being drawn, and the time left by what pictures cost."""

    def __init__(self, plan: Plan, *, silent: bool) -> None:
        self._costs = [cost(job.request) for job in plan.todo]
        self._steps = None if silent else Steps()
        self._done = 0
        self._total, self._drawn = sum(self._costs), 0.0
        self._start: float | None = None  # the first step: loading the base says nothing about the rest

    def __enter__(self) -> _Progress:
        if self._steps is not None:
            self._steps.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._steps is not None:
            self._steps.__exit__(None, None, None)

    def step(self, done: int, total: int) -> None:
        """A step of the picture that is being drawn."""
        self._start = self._start or time.monotonic()
        self._tell(done / total, f"step {done}/{total}")

    def done(self, outcome: Outcome) -> None:
        """A picture is done, or has failed."""
        if outcome.error is not None:
            print_error(f"{outcome.job.item.name} ({outcome.job.item.place}): {outcome.error}")
        elif self._steps is not None:
            self._steps.say(near(outcome.path.absolute()) if outcome.path else "")
        self._drawn += self._costs[self._done]
        self._done += 1
        self._tell(0.0, "")

    def _tell(self, share: float, what: str) -> None:
        if self._steps is None:
            return
        now = self._drawn + (share and share * self._costs[self._done])
        elapsed = time.monotonic() - (self._start or time.monotonic())
        left = ""
        if now and elapsed > 1:  # before, there is nothing to go by
            left = f"{duration(elapsed / now * (self._total - now))} left"
        detail = ", ".join(part for part in (what, left) if part)
        self._steps.update("drawing", self._done, len(self._costs), detail)


def _as_line(outcome: Outcome) -> dict[str, object]:
    line: dict[str, object] = {"id": outcome.job.id, "index": outcome.job.item.index}
    if outcome.error is None:
        line["file"] = str(outcome.path)
    else:
        line["error"] = outcome.error
    return {**line, "seconds": round(outcome.seconds, 3), "request": outcome.job.request.to_dict()}
