"""Who looks on while a request is drawn: told of the steps, shown previews, able to stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from .preview import Previews
from .sampling import Step

OnStep = Callable[[int, int], None]


class Stopped(Exception):
    """A request was told to stop; what is finished of it is kept."""


def check(stop: threading.Event | None) -> None:
    """Raises Stopped where `stop` is set."""
    if stop is not None and stop.is_set():
        raise Stopped


@dataclass(frozen=True)
class Watch:
    """The callbacks of a request, as one of its batches calls them.

    Attributes:
        index, batches: which batch of how many; the steps of all are counted as one.
        before, beside: how many batches of other requests come first, and how many there are of them.
    """

    on_step: OnStep | None
    previews: Previews | None
    stop: threading.Event | None
    index: int = 0
    batches: int = 1
    before: int = 0
    beside: int = 0

    def batch(self, index: int, batches: int) -> Watch:
        """The same for another batch, which begins now. Raises Stopped."""
        check(self.stop)
        if self.previews is not None:
            self.previews.begin()
        return replace(self, index=self.before + index, batches=self.beside + batches)

    def look(self, before: int, after: int, step: Step) -> None:
        """A step was taken in a pass that has `before` and `after` steps around it. Raises Stopped."""
        total = before + step.total + after
        if self.on_step is not None:
            self.on_step(self.index * total + before + step.done, self.batches * total)
        check(self.stop)
        if self.previews is not None:
            self.previews(step)
