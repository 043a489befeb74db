"""Loading without chatter: notices about torchvision, progress bars for a second's work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

_quiet: ContextVar[bool] = ContextVar("lorastyle_quiet", default=False)


@contextmanager
def quiet() -> Generator[None]:
    """Inside, transformers and diffusers log nothing below errors for this thread, and show no progress bars.

    Levels and handlers of loggers stay as they are: a filter on the two libraries' own handlers asks who is
    loading. Their switches of progress bars are the process's, so the last of several threads puts them back.
    """
    token = _quiet.set(True)
    try:
        # transformers first: diffusers imports it, and the notices come while it does
        from transformers.utils import logging as transformers_logging

        _filter_handlers(transformers_logging, "transformers")
        from diffusers.utils import logging as diffusers_logging

        _filter_handlers(diffusers_logging, "diffusers")
        with _bars.off((transformers_logging, diffusers_logging)):
            yield
    finally:
        _quiet.reset(token)


class _OnlyErrorsWhereQuiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or not _quiet.get()


_FILTER = _OnlyErrorsWhereQuiet()


def _filter_handlers(library: ModuleType, name: str) -> None:
    library.get_verbosity()  # makes the library's handler where there is none yet
    for handler in logging.getLogger(name).handlers:
        handler.addFilter(_FILTER)  # once: adding it again changes nothing


class _ProgressBars:
    """Off while at least one thread wants it so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted_off = 0
        self._before: dict[ModuleType, bool] = {}

    @contextmanager
    def off(self, libraries: tuple[ModuleType, ...]) -> Generator[None]:
        with self._lock:
            if not self._wanted_off:
                self._before = {library: library.is_progress_bar_enabled() for library in libraries}
                self._switch(dict.fromkeys(libraries, False))
            self._wanted_off += 1
        try:
            yield
        finally:
            with self._lock:
                self._wanted_off -= 1
                if not self._wanted_off:
                    self._switch(self._before)

    @staticmethod
    def _switch(states: dict[ModuleType, bool]) -> None:
        # transformers' own switches also flip huggingface_hub's, which shows downloads that are worth showing
        for library, enabled in states.items():
            vars(library)["_tqdm_active"] = enabled


_bars = _ProgressBars()
