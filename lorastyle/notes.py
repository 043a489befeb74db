"""Notes: what somebody should know about a result, although nothing failed.

A note belongs to the caller that asked for the result, so it goes to the listener of that caller's context,
and never through the process-wide `warnings` filters: two threads that listen at once each hear their own.
Without a listener a note is an ordinary Python warning, which is what a script expects.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str], object]

_listener: ContextVar[Listener | None] = ContextVar("lorastyle_note_listener", default=None)


def note(text: str, category: type[Warning] = UserWarning, *, stacklevel: int = 1) -> None:
    """Say `text` to the listener of this context; where there is none, warn.

    Args:
        text: whole sentences, with the value concerned and the next step.
        category: of the warning, where nobody listens.
        stacklevel: whose line the warning names: 1 is the caller of `note`, 2 its caller, and so on.
    """
    listener = _listener.get()
    if listener is None:
        warnings.warn(text, category, stacklevel=stacklevel + 1)
    else:
        listener(text)


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """Inside, notes of this thread (or task) go to `listener`, each once; the innermost listener hears alone.

    A thread that is started inside starts without a listener, unless it runs in a copy of this context.
    """
    heard: set[str] = set()

    def hear(text: str) -> None:
        if text not in heard:
            heard.add(text)
            listener(text)

    token = _listener.set(hear)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def collecting() -> Generator[list[str]]:
    """The notes of what runs inside, in order, each once."""
    heard: list[str] = []
    with listening(heard.append):
        yield heard
