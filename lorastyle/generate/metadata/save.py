"""Saving pictures that remember their request.

A PNG carries two texts: `parameters`, which other tools read (see `a1111.py`), and `lorastyle`, versioned
JSON with the whole request. JPEG and WebP carry the same two in EXIF (see `exif.py`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import PngImagePlugin

from lorastyle.adapters import move_new
from lorastyle.errors import PictureError
from lorastyle.notes import note

from ..request import GenerateRequest
from .a1111 import write_parameters
from .exif import write_exif
from .own import libraries, write_own
from .portable import portable_request

if TYPE_CHECKING:
    from PIL import Image

    from ..engine import Picture

PICTURE_FORMATS: Mapping[str, str] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
JPEG_QUALITY = 95
MOST_EXIF = 65533  # bytes of a JPEG's segment, with its first six


def save_picture(
    picture: Picture,
    path: str | os.PathLike[str],
    *,
    metadata: bool = True,
    quality: int | None = None,
) -> Path:
    """Write a picture, atomically, and never over an existing file: a taken name gets -2, -3 ...

    Nothing in it tells where it was made: adapters, the base and the picture it started from are recorded by
    name and hash, never by path.

    Args:
        picture: what `Engine.generate` returned.
        path: the file, ending in .png, .jpg, .jpeg or .webp; ".png" is added where it has no suffix. Its
            folder is made.
        metadata: whether the request goes with it.
        quality: of a JPEG or WebP, 1 to 100. None is 95 for JPEG; a WebP is lossless then.

    Returns:
        The path that was written.

    Raises:
        PictureError: another suffix, a quality that cannot be, or the folder cannot be written.

    Warns:
        UserWarning: the request is too long for a JPEG, which has room for 64 KB.
    """
    path = Path(path)
    check_picture_name(path, quality)
    path = path if path.suffix else path.with_name(path.name + ".png")
    texts = _texts(picture.request) if metadata else {}
    kind = PICTURE_FORMATS[path.suffix.lower()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".lorastyle-{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("xb") as file:
                _encode(picture.image, file, kind, texts, quality)
                file.flush()
                os.fsync(file.fileno())
            return _move_to_free_name(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        why = f"cannot be written ({error.strerror or error}). Choose another folder."
        raise PictureError.at(path, why) from error
    except ValueError as error:  # a WebP has at most 16,383 pixels a side
        raise PictureError.at(path, f"cannot be written ({error}). Save it as a .png.") from error


def check_picture_name(path: Path, quality: int | None = None) -> None:
    """Can a picture be saved under this name, in this quality?

    Raises:
        PictureError: it cannot.
    """
    kind = PICTURE_FORMATS.get(path.suffix.lower() or ".png")
    if kind is None:
        raise PictureError(
            f"Pictures are saved as PNG, JPEG or WebP; {path} ends in {path.suffix}. Name it "
            f"{path.stem}.png, {path.stem}.jpg or {path.stem}.webp."
        )
    if quality is not None and (kind == "PNG" or type(quality) is not int or not 1 <= quality <= 100):
        allowed = (
            "PNG has none: name a .jpg or .webp"
            if kind == "PNG"
            else "a whole number from 1 to 100 is needed"
        )
        raise PictureError(f"quality is {quality!r}; {allowed}.")


def _texts(request: GenerateRequest) -> dict[str, str]:
    request = portable_request(request)
    return {
        "parameters": write_parameters(request, libraries().get("lorastyle", "")),
        "lorastyle": write_own(request),
    }


def _encode(
    image: Image.Image, file: BinaryIO, kind: str, texts: Mapping[str, str], quality: int | None
) -> None:
    options: dict[str, Any] = {}
    if kind == "PNG" and texts:
        options["pnginfo"] = chunks = PngImagePlugin.PngInfo()
        chunks.add_text("parameters", texts["parameters"])
        chunks.add_itxt("lorastyle", texts["lorastyle"])
    elif kind == "JPEG":
        # 4:4:4, or the colours of thin lines are blurred, which icons consist of
        options = {"quality": quality or JPEG_QUALITY, "subsampling": 0}
        options["exif"] = _exif_that_fits(texts)
    elif kind == "WEBP":
        options = {"lossless": True} if quality is None else {"quality": quality}
        options["exif"] = _exif(texts)
    image.save(file, format=kind, **options)


def _exif(texts: Mapping[str, str]) -> bytes:
    return write_exif(texts, f"lorastyle {libraries().get('lorastyle', '')}".strip()) if texts else b""


def _exif_that_fits(texts: Mapping[str, str]) -> bytes:
    """Both texts where a JPEG has room for them, else the one that lorastyle reads, else the other."""
    every = _exif(texts)
    if len(every) <= MOST_EXIF:
        return every
    for key, lost in (
        ("lorastyle", "lorastyle restores it, other tools find nothing"),
        ("parameters", "only what other tools read of it was kept"),
    ):
        one = _exif({key: texts[key]})
        if len(one) <= MOST_EXIF:
            _warn(f"The request has more text than a JPEG has room for: {lost}.")
            return one
    _warn("The request has more text than a JPEG has room for, and was not saved with the picture.")
    return b""


def _warn(text: str) -> None:
    note(f"{text} A PNG or WebP holds all of it.", stacklevel=5)


def _move_to_free_name(temporary: Path, path: Path) -> Path:
    """Give the file the first free name of a.png, a-2.png, ...; two writers never get the same one."""
    number = 1
    while True:
        target = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            move_new(temporary, target)
            return target
        except FileExistsError:
            number += 1
