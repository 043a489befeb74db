"""`lorastyle version`: what a bug report needs."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from .console import say

_PACKAGES = (
    "lorastyle",
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "pillow",
    "numpy",
)


def version() -> None:
    """Print the versions that a bug report needs."""
    for name in _PACKAGES:
        try:
            found = installed_version(name)
        except PackageNotFoundError:
            found = "not installed"
        say(f"{name:13} {found}")
    say(f"{'python':13} {platform.python_version()}")
    say(f"{'system':13} {platform.platform()}")
