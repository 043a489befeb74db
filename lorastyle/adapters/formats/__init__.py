"""Naming families: how a tensor in a file says which module it belongs to.

To add one: a file here with a `Format`, and its line in `FORMATS`.
"""

from __future__ import annotations

from . import diffusers, kohya
from .naming import COMPONENTS, Format, TensorName

FORMATS: tuple[Format, ...] = (kohya.FORMAT, diffusers.FORMAT)

__all__ = ["COMPONENTS", "FORMATS", "Format", "TensorName", "parse_name"]


def parse_name(key: str) -> tuple[Format, TensorName] | None:
    """Take a tensor's key apart with the first format that knows it; None if it is no adapter tensor."""
    for fmt in FORMATS:
        if (name := fmt.parse(key)) is not None:
            return fmt, name
    return None
