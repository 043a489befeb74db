"""Requests in, pictures out. Requests and pictures' metadata are read without importing torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .fetched import fetched
from .metadata import (
    PICTURE_FORMATS,
    check_picture_name,
    portable_request,
    read_request,
    read_settings,
    save_picture,
)
from .names import slug
from .picture_space import check_picture_space
from .prompt_tags import with_tags_read
from .request import GenerateRequest
from .schedule import Schedule
from .schedulers import SCHEDULERS
from .uses import AdapterUse

if TYPE_CHECKING:
    from .engine import Engine
    from .picture import Picture
    from .preview_file import PreviewFile
    from .residents import other_family, refuse_other_family
    from .room import choose_memory
    from .sampling import Start, denoise

__all__ = [
    "PICTURE_FORMATS",
    "SCHEDULERS",
    "AdapterUse",
    "Engine",
    "GenerateRequest",
    "Picture",
    "PreviewFile",
    "Schedule",
    "Start",
    "check_picture_name",
    "check_picture_space",
    "choose_memory",
    "denoise",
    "fetched",
    "other_family",
    "portable_request",
    "read_request",
    "read_settings",
    "refuse_other_family",
    "save_picture",
    "slug",
    "with_tags_read",
]

if not TYPE_CHECKING:  # hidden from type checkers, so that a misspelt name stays an error for them

    def __getattr__(name: str) -> object:
        rooms = {
            "Engine": "engine",
            "Picture": "picture",
            "PreviewFile": "preview_file",
            "Start": "sampling",
            "choose_memory": "room",
            "denoise": "sampling",
            "other_family": "residents",
            "refuse_other_family": "residents",
        }
        if name not in rooms:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f".{rooms[name]}", __name__), name)
