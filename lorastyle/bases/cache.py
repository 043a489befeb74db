"""Where things are kept that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`LORASTYLE_CACHE`, or `~/.cache/lorastyle`."""
    return Path(os.environ.get("LORASTYLE_CACHE") or Path.home() / ".cache" / "lorastyle")
