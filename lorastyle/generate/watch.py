"""Who looks on while a request is drawn: told of the steps, shown previews, able to stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .preview import Previews
from .sampling import Step

OnStep = Callable[[int, int], None]


class Stopped(Exception):
    """A request was told to stop; what is finished of it is kept."""


def check(stop: threading.Event | None) -> None:
    """Raises Stopped where `stop` is set."""
    if stop is not None and stop.is_set():
        raise Stopped


@dataclass
class Meter:
    """What was done of several batches.

    Attributes:
        finished: batches.
        steps: taken in all, by batches that broke off too.
        lost: steps of batches that broke off.
        each: steps of a batch.
    """

    finished: int = 0
    steps: int = 0
    lost: int = 0
    each: int = 0


@dataclass(frozen=True)
class Watch:
    """The callbacks of a request, as one of its batches calls them.

    Attributes:
        left: how many batches there still are, this one included; the steps of all are counted as one.
        after: how many batches of other requests come later.
        meter: shared by all of them.
    """

    on_step: OnStep | None
    previews: Previews | None
    stop: threading.Event | None
    left: int = 1
    after: int = 0
    meter: Meter = field(default_factory=Meter)

    def batch(self, left: int) -> Watch:
        """The same for another batch, which begins now. Raises Stopped."""
        check(self.stop)
        if self.previews is not None:
            self.previews.begin()
        return replace(self, left=left)

    def look(self, before: int, after: int, step: Step) -> None:
        """A step was taken in a pass that has `before` and `after` steps around it. Raises Stopped."""
        meter = self.meter
        meter.each = before + step.total + after
        meter.steps = meter.lost + meter.finished * meter.each + before + step.done
        if self.on_step is not None:
            batches = meter.finished + self.left + self.after
            self.on_step(meter.steps, meter.lost + batches * meter.each)
        check(self.stop)
        if self.previews is not None:
            self.previews(step)

    def finished(self) -> None:
        """This batch is done."""
        self.meter.finished += 1

    def broke_off(self) -> None:
        """This batch will be drawn again; the steps that it took stay counted."""
        meter = self.meter
        meter.lost = max(meter.lost, meter.steps - meter.finished * meter.each)
