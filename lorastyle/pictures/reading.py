"""Open any picture a person may have in a folder, and open it rightly."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import cast

from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from .colours import eight_bits, to_srgb
from .directories import Overdone, check_before_opening, check_block
from .unreadable import what_it_is

SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"}
)
# Only these decoders run, whatever a file claims to be: others start programs (EPS) or read further files.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "BMP", "GIF", "TIFF")
FEWEST_PIXELS = 16  # a side
MOST_PIXELS = 120_000_000  # in all; the largest common phone pictures have 108 million
MOST_ASPECT = 8.0
MOST_BYTES = 500_000_000

_ORIENTATION = 0x0112  # the EXIF tag


class Unusable(Exception):
    """A picture cannot be used; the text is the reason, for a person."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A picture as it will be trained on, and what was done to it on the way.

    Attributes:
        image: RGB, upright, on the background colour.
        notes: what a person should know, such as "turned upright as its EXIF data say".
        sha256: of the file's bytes, in hex digits.
    """

    image: Image.Image
    notes: tuple[str, ...]
    sha256: str


def open_picture(path: Path, background: str = "white") -> Opened:
    """Decode one file: first frame, upright, 8 bits, sRGB, transparency composed on `background`.

    Pillow may warn about odd metadata or large sizes, through Python's warnings: sizes are checked here, and
    odd metadata does not matter.

    Raises:
        Unusable: the file is empty, damaged, no picture, far too large or small, or cannot be read.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # reading a pipe would wait for ever
            raise Unusable("not an ordinary file")
        if about.st_size > MOST_BYTES:
            raise Unusable(f"{about.st_size / 1e6:,.0f} MB; at most {MOST_BYTES / 1e6:,.0f} are read")
        data = path.read_bytes()
    except OSError as error:
        raise Unusable(_why(path, error)) from error
    if not data:
        raise Unusable("an empty file (0 bytes): copy it again")
    try:
        Image.init()
        check_before_opening(data)
        with Image.open(BytesIO(data), formats=[f for f in FORMATS if f in Image.OPEN]) as image:
            _check_size(image)
            opened, notes = _upright_rgb(image, path, background)
    except Unusable:
        raise
    except Overdone as error:
        raise Unusable(
            "its EXIF data are made to fill the memory: open it in a paint program and save it anew"
        ) from error
    except Image.DecompressionBombError as error:
        raise Unusable(f"far too many pixels; at most {MOST_PIXELS:,} are read: save it smaller") from error
    except UnidentifiedImageError as error:
        raise Unusable(what_it_is(data)) from error
    except Exception as error:  # decoders meet bytes of any kind, and raise exceptions of any kind
        detail = str(error) or type(error).__name__
        raise Unusable(f"damaged or cut off ({detail}): copy or save it again") from error
    return Opened(opened, notes, hashlib.sha256(data).hexdigest())


def _why(path: Path, error: OSError) -> str:
    if path.is_symlink() and not os.path.exists(path):
        return "a link to a file that is not there"
    advice = ": change who may read it" if isinstance(error, PermissionError) else ""
    return f"cannot be read ({error.strerror or error}){advice}"


def _check_size(image: Image.Image) -> None:
    """By the header alone, before any pixel is decoded."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise Unusable(f"{width} x {height} pixels; at most {MOST_PIXELS:,} are read: save it smaller")
    if min(width, height) < FEWEST_PIXELS:
        raise Unusable(f"{width} x {height} pixels; at least {FEWEST_PIXELS} a side are needed")
    if max(width, height) > MOST_ASPECT * min(width, height):
        raise Unusable(f"{width} x {height} pixels; longer than {MOST_ASPECT:g} to 1: crop it")


def _upright_rgb(image: Image.Image, path: Path, background: str) -> tuple[Image.Image, tuple[str, ...]]:
    notes: list[str] = []
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":  # phones keep a depth map there, not a second picture
        notes.append(f"the first of {frames} {'pages' if image.format == 'TIFF' else 'frames'}")
        image.seek(0)
    expected = Image.registered_extensions().get(path.suffix.lower())
    if image.format and expected and image.format != expected and {image.format, expected} != {"JPEG", "MPO"}:
        notes.append(f"a {image.format} file, in spite of its name")
    image.load()
    if "lorastyle" in image.info or b"lorastyle" in cast("bytes", image.info.get("exif", b"")):
        notes.append("drawn by lorastyle")
    profile = cast("bytes | None", image.info.get("icc_profile"))
    _check_exif(image)
    image = _upright(image, notes)  # before anything looks at width and height
    if image.mode.startswith("I") or image.mode == "F":
        notes.append(f"{16 if image.mode.startswith('I;16') else 32} bits made 8")
        image = eight_bits(image)
    image = to_srgb(image, profile, notes)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = _on(background, image.convert("RGBA"), notes)
    return image.convert("RGB"), tuple(notes)


def _check_exif(image: Image.Image) -> None:
    """Of PNG and WebP, whose EXIF data are only read when asked for. Raises Overdone."""
    check_block(cast(bytes, image.info.get("exif", b"")))
    raw = cast(str, image.info.get("Raw profile type exif", ""))  # as ImageMagick writes it: in hex digits
    with suppress(ValueError):  # Pillow finds the same, and damaged EXIF is no reason to lose a picture
        block = bytes.fromhex("".join(raw.split("\n")[3:]))
        check_block(block)


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    try:
        orientation = cast(object, image.getexif().get(_ORIENTATION, 1))
        turned = ImageOps.exif_transpose(image)
    except Exception:  # as above: EXIF is bytes of any kind, and no reason to lose a picture
        notes.append("its EXIF data are damaged and were left out: see that it is upright")
        return image
    if orientation in range(2, 9):
        notes.append("turned upright as its EXIF data say")
    return turned


def _on(background: str, layer: Image.Image, notes: list[str]) -> Image.Image:
    lowest, highest = cast("tuple[int, int]", layer.getchannel("A").getextrema())
    if highest == 0:
        raise Unusable("wholly transparent: there is nothing to see")
    if lowest < 255:
        notes.append(f"transparent: composed on {background}")
    canvas = Image.new("RGBA", layer.size, (*ImageColor.getrgb(background)[:3], 255))
    canvas.alpha_composite(layer)
    return canvas
