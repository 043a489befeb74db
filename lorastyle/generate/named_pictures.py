"""Pictures that a request names: to start from, and masks."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lorastyle.errors import PictureError
from lorastyle.library import expanded
from lorastyle.notes import note
from lorastyle.pictures import Opened, Unusable, open_picture


def read_picture(name: str, background: str = "white") -> Opened:
    """The picture at a path.

    Raises:
        PictureError: it is not there, or cannot be read.
    """
    path = expanded(name)
    if not path.exists():
        raise PictureError.at(name, "no such picture.")
    try:
        return open_picture(path, background)
    except Unusable as error:
        raise PictureError.at(name, f"cannot be read: {error}.") from error


def read_mask(name: str) -> tuple[Image.Image, str]:
    """A mask, "L", of what is not transparent in a picture, else of what is white; and its file's sha256.

    Raises:
        PictureError: it cannot be read, or is black all over.
    """
    on_white, on_black = read_picture(name), read_picture(name, "black")
    alpha = 255 - (np.asarray(on_white.image, int) - np.asarray(on_black.image, int)).max(-1)
    shown = alpha if alpha.min() < 255 else np.asarray(on_white.image.convert("L"))
    if shown.max() == 0:
        raise PictureError.at(
            name,
            "the mask is all black. What is white (or not transparent) is meant by it: paint that "
            "part white.",
        )
    return Image.fromarray(shown.astype(np.uint8)), on_white.sha256


def recorded_hash(name: str, digest: str, earlier: str | None) -> str:
    """What a request records of a file.

    Warns:
        UserWarning: it recorded another file under that name.
    """
    if earlier is not None and earlier != digest[:12]:
        note(
            f'The picture "{name}" is {digest[:12]}, the request was made with {earlier}: what is drawn will '
            "differ.",
            stacklevel=6,
        )
    return digest[:12]
