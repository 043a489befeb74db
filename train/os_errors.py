"""Errors of the operating system in a run, in one sentence each: what happened, to what, and what to do."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from lorastyle.adapters import FULL, TOO_MANY_FILES
from lorastyle.bases import is_out_of_memory
from lorastyle.errors import TrainingError

from .run import RunFolder
from .stop import Stop

_NETWORK = frozenset(
    {
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ETIMEDOUT,
    }
)
_NETWORK_TYPES = (ConnectionError, TimeoutError, socket.gaierror, socket.herror, ssl.SSLError, URLError)
_NETWORK_PACKAGES = frozenset({"requests", "urllib3", "httpx", "httpcore", "huggingface_hub"})


@contextmanager
def translate_os_errors(run: RunFolder, stop: Stop) -> Generator[None]:
    """Turn errors of the operating system into a TrainingError.

    What the listener of the run's events raises goes through unchanged: whoever listens knows what it means.
    So does memory that ran out.
    """
    try:
        yield
    except OSError as error:
        if error is stop.listener_error or is_out_of_memory(error):
            raise
        raise TrainingError(describe_os_error(error, run)) from error


def describe_os_error(error: OSError, run: RunFolder) -> str:
    """What happened, and the next step."""
    why = error.strerror or str(error) or type(error).__name__
    path = _path_of(error)
    if error.errno in TOO_MANY_FILES:
        return (
            f"Too many files are open ({why}). Close other programs or raise the limit (ulimit -n), then "
            f"{_next(run)}."
        )
    if _is_of_network(error):
        return f"The network failed ({why}). Check the connection, then {_next(run)}."
    if error.errno in FULL:
        where = path or run.path
        return f"Cannot write {where} ({why}). Free some disk space{_or_elsewhere(run)}, then {_next(run)}."
    if error.errno == errno.EROFS or (path is not None and _is_output(path, run)):
        where = path or run.path
        return (
            f"Cannot write {where} ({why}). Make the folder writable{_or_elsewhere(run)}, then {_next(run)}."
        )
    if path is not None:
        return f"Cannot read {path} ({why}). Put it back or make it readable, then {_next(run)}."
    return f"The training ended with an error of the operating system: {why}. Mend that, then {_next(run)}."


def _next(run: RunFolder) -> str:
    if run.checkpoint.exists():
        return f'resume: lorastyle train --config "{run.settings}" --resume'
    return "train again. No half-written adapter was left"


def _or_elsewhere(run: RunFolder) -> str:
    """A run that has a checkpoint is resumed where that is."""
    return "" if run.checkpoint.exists() else " or choose another --out"


def _path_of(error: OSError) -> Path | None:
    """The file concerned: of two, the one that was to be made."""
    for name in (error.filename2, error.filename):
        if isinstance(name, (str, bytes, os.PathLike)) and name:
            return Path(os.fsdecode(name))
    return None


def _is_output(path: Path, run: RunFolder) -> bool:
    """Whether the run writes this file: its folder, the adapter, and what is kept beside it."""
    path, folder, adapter = (Path(os.path.abspath(p)) for p in (path, run.path, run.adapter))
    if path == adapter.parent or folder in (path, *path.parents):
        return True
    return path.parent == adapter.parent and path.name.startswith((adapter.stem, ".lorastyle-"))


def _is_of_network(error: OSError) -> bool:
    package = type(error).__module__.partition(".")[0]
    return (
        isinstance(error, _NETWORK_TYPES) or error.errno in _NETWORK or package in _NETWORK_PACKAGES
    ) and not isinstance(error, BrokenPipeError)
