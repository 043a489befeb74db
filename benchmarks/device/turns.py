"""Contenders side by side: built, timed in turns, their memory told apart, and gone again."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Generic, TypeVar

import torch

from .rows import Recorder, Row, told

T = TypeVar("T")


class Card:
    """The device's clock and the books of its allocator; a processor keeps none."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"

    def wait(self) -> None:
        """Until everything that was asked for is done."""
        if self._cuda:
            torch.cuda.synchronize(self.device)

    def held(self) -> int:
        """Bytes of tensors that are alive."""
        return torch.cuda.memory_allocated(self.device) if self._cuda else 0

    def forget_peak(self) -> None:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int:
        """Most bytes of tensors that were alive at once since `forget_peak`."""
        return torch.cuda.max_memory_allocated(self.device) if self._cuda else 0

    def reserved(self) -> int:
        """The same with the gaps between them: what the allocator took of the card."""
        return torch.cuda.max_memory_reserved(self.device) if self._cuda else 0

    def known(self, count: float) -> float | None:
        """A figure of the allocator's; None where it keeps no books."""
        return count if self._cuda else None

    def free(self) -> None:
        """What nobody holds goes back to the device."""
        gc.collect()
        if self._cuda:
            torch.cuda.empty_cache()

    def timed(self, call: Callable[[], object]) -> float:
        """Seconds of a call, to its end on the device."""
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - start


class Contest(Generic[T]):
    """Contenders that are alive at the same time. One that fails is a row, and the others go on.

    Args:
        makers: {name: what makes a contender and clears it away}.
    """

    def __init__(
        self,
        card: Card,
        recorder: Recorder,
        section: str,
        setting: Mapping[str, str | int],
        makers: Mapping[str, Callable[[], AbstractContextManager[T]]],
    ) -> None:
        self._card, self._recorder, self._section, self._setting = card, recorder, section, dict(setting)
        self._makers = makers
        self._stack = ExitStack()
        self._live: dict[str, T] = {}
        self._held: dict[str, int] = {}

    def __enter__(self) -> Contest[T]:
        for who, make in self._makers.items():
            before = self._card.held()
            try:
                self._live[who] = self._stack.enter_context(make())
                self._held[who] = self._card.held() - before
            except Exception as error:
                self._failed(who, self._setting, error)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.clear()
        try:
            self._stack.close()
        except Exception as error:
            self._failed("clearing away", self._setting, error)
        self._card.free()

    def race(
        self,
        setting: Mapping[str, str | int],
        call: Callable[[T], object],
        figures: Callable[[float], Mapping[str, float | None]],
        *,
        warmup: int,
        rounds: int,
        most_seconds: float = 5.0,
    ) -> None:
        """Time everybody, and add a row for each.

        Args:
            figures: of the median in seconds.
            most_seconds: of all timed rounds together; three are taken in any case.
        """
        setting = {**self._setting, **setting}
        seconds: dict[str, list[float]] = {who: [] for who in self._live}
        peaks = dict.fromkeys(seconds, 0)
        errors = set[str]()

        def once(who: str) -> float:
            others = sum(count for name, count in self._held.items() if name != who)
            before = self._card.held()
            self._card.forget_peak()
            taken = self._card.timed(lambda: call(self._live[who]))
            peaks[who] = max(peaks[who], self._card.peak() - others)
            self._held[who] += self._card.held() - before
            return taken

        order = list(seconds)

        def around(keep: bool) -> None:
            for who in order:
                if who in errors:
                    continue
                try:
                    taken = once(who)
                except Exception as error:
                    errors.add(who)
                    self._failed(who, setting, error)
                    continue
                if keep:
                    seconds[who].append(taken)
            order.append(order.pop(0))

        if not order:
            return
        for _ in range(warmup):
            around(False)
        start = time.perf_counter()
        for done in range(rounds):
            if done >= min(3, rounds) and time.perf_counter() - start > most_seconds:
                break
            around(True)
        for who, taken in seconds.items():
            if who not in errors:
                measured = {**figures(statistics.median(taken)), "peak": self._card.known(peaks[who])}
                self._recorder.add(Row(self._section, setting, who, measured, note=f"{len(taken)} rounds"))

    def _failed(self, who: str, setting: Mapping[str, str | int], error: Exception) -> None:
        self._recorder.add(Row(self._section, setting, who, error=told(error)))
        error.__traceback__ = None  # its frames hold tensors
        self._card.free()
