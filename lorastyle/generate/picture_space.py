"""Is there room on the disk for images that are about to be drawn?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lorastyle.adapters import existing_parent, lack_of_space
from lorastyle.errors import PictureError

from .request import GenerateRequest

# Bytes for a pixel, of images that compress well: what does not fit by this surely does not fit.
_BYTES = {".png": 0.8, ".webp": 0.5, ".jpg": 0.1, ".jpeg": 0.1}
_SIDE = 128  # pixels where the base decides: the smallest base's


def check_picture_space(folder: Path, wanted: Iterable[tuple[GenerateRequest, str]]) -> None:
    """Does the disk of a folder, which need not be there yet, hold these images?

    Args:
        wanted: requests, each with the suffix of its files.

    Raises:
        PictureError: it surely does not; with how much they need and how much is free.
    """
    needed, count = 0.0, 0
    for request, suffix in wanted:
        pixels = (request.width or _SIDE) * (request.height or _SIDE) * request.hires**2
        needed += request.number * pixels * _BYTES.get(suffix.lower(), _BYTES[".png"])
        count += request.number
    if (lack := lack_of_space({folder: round(needed)})) is not None:
        images = f"{count:,} image{'s' * (count != 1)}"
        raise PictureError(
            f"There is too little disk space at {existing_parent(folder)} for {images}: {lack}. Free some, "
            "or choose another --out."
        )
