"""Ctrl-C and SIGTERM that let the step at hand end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def gentle() -> Generator[threading.Event]:
    """Inside, the first Ctrl-C or SIGTERM sets the event, and a second one acts as it always does.

    Signals are heard in the main thread only; elsewhere nothing sets the event.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def heard(number: int, frame: FrameType | None) -> None:
        restore()
        asked.set()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, heard)
    try:
        yield asked
    finally:
        restore()
