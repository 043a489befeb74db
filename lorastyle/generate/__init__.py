"""Requests in, pictures out. Requests and pictures' metadata are read without importing torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .library import adapter_folders, find_adapter
from .metadata import read_request, save_picture
from .request import AdapterUse, GenerateRequest
from .schedulers import SCHEDULERS

if TYPE_CHECKING:
    from .engine import Engine, Picture

__all__ = [
    "SCHEDULERS",
    "AdapterUse",
    "Engine",
    "GenerateRequest",
    "Picture",
    "adapter_folders",
    "find_adapter",
    "read_request",
    "save_picture",
]

if not TYPE_CHECKING:  # hidden from type checkers, so that a misspelt name stays an error for them

    def __getattr__(name: str) -> object:
        if name not in ("Engine", "Picture"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import engine

        return getattr(engine, name)
