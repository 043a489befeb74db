"""Naming families: how a tensor in a file says which module it belongs to.

To add one: a file here with a `Format`, and its line in `FORMATS`.
"""

from __future__ import annotations

from functools import lru_cache

from . import comfy, diffusers, kohya, peft
from .naming import COMPONENTS, Format, TensorName
from .suffixes import UNSUPPORTED, split_suffix

FORMATS: tuple[Format, ...] = (kohya.FORMAT, diffusers.FORMAT, comfy.FORMAT, peft.FORMAT)

__all__ = ["COMPONENTS", "FORMATS", "UNSUPPORTED", "Format", "TensorName", "parse_name"]


@lru_cache(maxsize=4096)  # a load asks for each key several times
def parse_name(key: str) -> tuple[Format, TensorName] | None:
    """Take a tensor's key apart with the first format that knows it; None if it is no adapter tensor."""
    if (split := split_suffix(key)) is None:
        return None
    module, role, algorithm = split
    for fmt in FORMATS:
        if (component := fmt.owner(module)) is not None:
            return fmt, TensorName(component, module, role, algorithm)
    return None
