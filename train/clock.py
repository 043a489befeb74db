"""How fast it goes, measured."""

from __future__ import annotations

import time
from types import TracebackType


class Clock:
    """Times what is done inside `with clock:`, one step a time; the first two warm up and don't count."""

    WARM_UP = 2

    def __init__(self, images_per_step: int) -> None:
        self._images = images_per_step
        self._steps, self._started = 0, 0.0
        self._average: float | None = None

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        took = time.perf_counter() - self._started
        self._steps += 1
        if self._steps > self.WARM_UP:
            share = max(0.05, 1 / (self._steps - self.WARM_UP))  # a plain mean first, then one that forgets
            self._average = took if self._average is None else self._average + share * (took - self._average)

    @property
    def images_per_second(self) -> float | None:
        """Own pictures a second; None until measured."""
        return None if self._average is None else self._images / self._average

    def seconds_left(self, steps: int) -> float | None:
        """For this many more steps; None until measured."""
        return None if self._average is None else self._average * steps
