"""The user's own tags for adapters, in a file of LORASTYLE_HOME, and the lock on all that changes there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from lorastyle.adapters import atomic_write, lock_file
from lorastyle.errors import AdapterError, ConfigError, shortened

from .folders import home
from .names import in_library

Tags: TypeAlias = dict[Path, tuple[str, ...]]

_PATIENCE = 10.0  # seconds to wait for another process
_LONGEST = 60


def read_tags() -> Tags:
    """{absolute path of an adapter: its tags}.

    Raises:
        AdapterError: the file is there and cannot be read.
    """
    store = _store()
    try:
        content: Any = json.loads(store.read_bytes())
        return {store.parent / path: tuple(map(str, tags)) for path, tags in content.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise AdapterError(f"{store} cannot be read ({error}). Mend it, or move it away.") from error


def change_tags(name: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> tuple[str, ...]:
    """Add and remove tags of an adapter of the library, and answer with those of the user it has then.

    Raises:
        ConfigError: a tag that is empty, too long, or has a comma or a control character in it.
        AdapterError: there is no such adapter, or the file of tags cannot be read or written.
    """
    add, remove = [_checked(tag) for tag in add], {_checked(tag) for tag in remove}
    path = in_library(name)
    if not add and not remove:
        return read_tags().get(path, ())
    with changing() as tags:
        now = tuple(dict.fromkeys(tag for tag in (*tags.get(path, ()), *add) if tag not in remove))
        tags[path] = now
    return now


def move_tags(tags: Tags, path: Path, target: Path) -> None:
    """They go with a file; those that a file before left under the new name go away."""
    tags.pop(target, None)
    if (own := tags.pop(path, None)) is not None:
        tags[target] = own


@contextmanager
def changing() -> Generator[Tags]:
    """Alone with the library: other processes that change it wait meanwhile.

    Yields the tags, which are written at the end where the block has changed them and has raised nothing.

    Raises:
        AdapterError: another process is at work for ten seconds, or the tags cannot be read or written.
    """
    store = _store()
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        lock = store.with_name("library.lock").open("ab")
    except OSError as error:
        raise AdapterError(f"{store.parent} cannot be written ({error.strerror or error}).") from error
    with lock:
        _wait_for(lock)
        tags = read_tags()
        before = dict(tags)
        yield tags
        if tags != before:
            _write(tags)


def _wait_for(lock: BinaryIO) -> None:
    until = time.monotonic() + _PATIENCE
    while not lock_file(lock):
        if time.monotonic() > until:
            raise AdapterError("The library is held by another process. Try again when that is done.")
        time.sleep(0.02)


def _write(tags: Tags) -> None:
    """Paths inside LORASTYLE_HOME are kept without it, so that it may be moved."""
    store = _store()
    kept = {
        (path.relative_to(store.parent) if path.is_relative_to(store.parent) else path).as_posix(): list(
            words
        )
        for path, words in sorted(tags.items())
        if words
    }
    data = json.dumps(kept, ensure_ascii=False, indent=1)
    try:
        atomic_write(store, data.encode("utf-8", "surrogatepass"))  # names may be no text in UTF-8
    except OSError as error:
        raise AdapterError(f"{store} cannot be written ({error.strerror or error}).") from error


def _store() -> Path:
    return Path(os.path.abspath(home())) / "tags.json"


def _checked(tag: str) -> str:
    tag = tag.strip()
    if not tag or len(tag) > _LONGEST or "," in tag or not tag.isprintable():
        raise ConfigError(f"{shortened(tag)} is no tag: 1 to {_LONGEST} letters without a comma are needed.")
    return tag
