"""Where lorastyle keeps what is its user's: the folders of adapters, and what it knows about them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

SUFFIX = ".safetensors"


def home() -> Path:
    """LORASTYLE_HOME; else `lorastyle` in XDG_DATA_HOME; else `~/.local/share/lorastyle`.

    Source of the second: the XDG Base Directory Specification 0.8, which passes over relative paths.
    """
    if named := os.environ.get("LORASTYLE_HOME"):
        return Path(os.path.expanduser(named))
    data = os.environ.get("XDG_DATA_HOME", "")
    return Path(data if os.path.isabs(data) else os.path.expanduser("~/.local/share")) / "lorastyle"


def adapter_folders() -> tuple[Path, ...]:
    """The folders in which a bare name is looked up, first match wins. `add` puts adapters into the last."""
    return Path("adapters"), home() / "adapters"


def distinct(folders: Iterable[Path]) -> list[Path]:
    """Absolute, and each once, whatever links lead to it."""
    found: dict[str, Path] = {}
    for folder in folders:
        found.setdefault(os.path.realpath(folder), Path(os.path.abspath(folder)))
    return list(found.values())
