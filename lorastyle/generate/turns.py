"""Whose turn it is to draw with an engine: one thread at a time, and requests take turns batch by batch."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from lorastyle.errors import ConfigError

from .watch import check

LOOK_EVERY = 0.05  # seconds between looks at whether a request that waits was stopped


class Setting(Protocol):
    """What an engine has to be set to while a request is drawn."""

    def enter(self) -> None:
        """Set it, whatever was set before."""
        ...

    def leave(self) -> None:
        """Undo what must not last."""
        ...


class Turns:
    """Holds an engine for a thread while it draws a batch. What a request needs set stays set until another
    request has its turn.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Setting | None = None
        self._drawing: set[int] = set()  # threads with a request that is not over

    @contextmanager
    def request(self) -> Generator[None]:
        """For the length of a request.

        Raises:
            ConfigError: a callback of one asks for another.
        """
        thread = threading.get_ident()
        if thread in self._drawing:
            raise ConfigError(
                "A callback cannot draw with the engine that called it. Draw when generate() has returned."
            )
        self._drawing.add(thread)
        try:
            yield
        finally:
            self._drawing.discard(thread)

    @contextmanager
    def first(self, setting: Setting, stop: threading.Event | None) -> Generator[None]:
        """A turn in which the request itself sets what it needs; it counts as entered.

        Raises:
            Stopped: `stop` is set before it is free.
        """
        with self._held(stop):
            self._leave()
            self._current = setting
            yield

    @contextmanager
    def turn(self, setting: Setting, stop: threading.Event | None) -> Generator[None]:
        """A further one, with the setting entered again where another request had a turn since.

        Raises:
            Stopped: `stop` is set before it is free.
        """
        with self._held(stop):
            if self._current is not setting:
                self._leave()
                setting.enter()
                self._current = setting
            yield

    def end(self, setting: Setting) -> None:
        """The request is over: leave its setting, if that is the one that is set."""
        if self._current is setting:
            with self._lock:
                if self._current is setting:
                    self._leave()

    def _leave(self) -> None:
        if self._current is not None:
            current, self._current = self._current, None
            current.leave()

    @contextmanager
    def _held(self, stop: threading.Event | None) -> Generator[None]:
        while not self._lock.acquire(timeout=-1 if stop is None else LOOK_EVERY):
            check(stop)
        try:
            check(stop)
            yield
        finally:
            self._lock.release()
