"""Warnings as notes for whoever waits for the result, and for nobody else."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO


class Notes:
    """Collects the warnings of a thread.

    Python has one place for the warnings of all threads, so that place is taken once, for as long as the page
    is served, and what is shown there goes to the thread that warned.
    """

    def __init__(self) -> None:
        self._own = threading.local()

    @contextmanager
    def listening(self) -> Generator[None]:
        """Inside, every warning of lorastyle is heard each time; what nobody collects is shown as before."""
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=UserWarning, module=r"lorastyle(\..*)?")
            before = warnings.showwarning

            def hear(
                message: Warning | str,
                category: type[Warning],
                filename: str,
                lineno: int,
                file: TextIO | None = None,
                line: str | None = None,
            ) -> None:
                heard: list[str] | None = getattr(self._own, "heard", None)
                if heard is None:
                    before(message, category, filename, lineno, file, line)
                elif issubclass(category, UserWarning) and str(message) not in heard:
                    heard.append(str(message))

            warnings.showwarning = hear
            yield

    @contextmanager
    def collect(self) -> Generator[list[str]]:
        """The notes of this thread, each once."""
        self._own.heard = heard = list[str]()
        try:
            yield heard
        finally:
            self._own.heard = None
