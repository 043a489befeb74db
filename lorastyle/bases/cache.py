"""Where lorastyle keeps what it can make again."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_instead: ContextVar[Path | None] = ContextVar("lorastyle_cache_folder", default=None)


def cache_folder() -> Path:
    """LORASTYLE_CACHE, else ~/.cache/lorastyle."""
    if (instead := _instead.get()) is not None:
        return instead
    return Path(os.environ.get("LORASTYLE_CACHE") or Path.home() / ".cache" / "lorastyle")


@contextmanager
def caching_in(folder: Path) -> Generator[None]:
    """Inside, this thread keeps what it caches in `folder`."""
    token = _instead.set(folder)
    try:
        yield
    finally:
        _instead.reset(token)
