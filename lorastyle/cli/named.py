"""Which adapter a word of the command line means."""

from __future__ import annotations

import os
from pathlib import Path

from lorastyle.library import SUFFIX, find_adapter, look_up


def adapter_path(word: str) -> Path:
    """As `-a` takes it: a name in the library, a path with or without .safetensors, or a name of the Hub that
    is in the local cache. What is there and no adapter stays a path, whose reading says what it is.

    Raises:
        AdapterError: there is no such name; what exists is listed.
    """
    found = look_up(word)
    if found is not None:
        return found
    if word.lower().endswith(SUFFIX) or _is_there(word):
        return Path(word)
    return find_adapter(word)


def _is_there(word: str) -> bool:
    try:
        return os.path.lexists(word)
    except ValueError:  # a name that no file can have
        return False
