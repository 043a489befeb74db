"""Pictures that remember their request: PNG, JPEG and WebP, read without decoding a pixel."""

from __future__ import annotations

from .portable import portable_request
from .save import PICTURE_FORMATS, check_picture_name, save_picture
from .settings import read_request, read_settings

__all__ = [
    "PICTURE_FORMATS",
    "check_picture_name",
    "portable_request",
    "read_request",
    "read_settings",
    "save_picture",
]
