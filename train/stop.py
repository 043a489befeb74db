"""Ctrl-C, SIGTERM or a file in its folder end a run between two steps, so that what is saved is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

from .events import Event, Listener


class Stop:
    """While entered, the first Ctrl-C or SIGTERM sets `requested`; a second one acts as it always does.

    Signals are only heard in the main thread; elsewhere set `requested` yourself, raise KeyboardInterrupt
    from the listener, or make the file that is watched.
    """

    def __init__(self, listener: Listener | None = None) -> None:
        self.listener_error: Exception | None = None  # what the listener raised
        self._requested = False
        self._listener = listener
        self._journal: Listener | None = None
        self._file: Path | None = None
        self._before: dict[signal.Signals, object] = {}

    @property
    def requested(self) -> bool:
        """Whether the run is to end."""
        if not self._requested and self._file is not None:
            self._requested = self._file.exists()
        return self._requested

    @requested.setter
    def requested(self, value: bool) -> None:
        self._requested = value

    @contextmanager
    def watching(self, file: Path, journal: Listener) -> Generator[None]:
        """Inside, the file's being there is a request too, and the journal is told of every event first."""
        self._file, self._journal = file, journal
        try:
            yield
        finally:
            self._file = self._journal = None

    def emit(self, event: Event) -> None:
        """Tell the listener; its KeyboardInterrupt is a request to stop."""
        if self._journal is not None:
            self._journal(event)
        if self._listener is None:
            return
        try:
            self._listener(event)
        except KeyboardInterrupt:
            self.requested = True
        except Exception as error:
            self.listener_error = error
            raise

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._put_back()

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._put_back()

    def _put_back(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
