"""Is the context obeyed? Checks on the pixels: background colour, size, place, pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Background words and the middle of the colours they stand for.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 52, 50),
    "orange": (248, 148, 36),
    "yellow": (252, 220, 64),
    "green": (64, 172, 84),
    "blue": (58, 118, 226),
    "purple": (148, 84, 200),
    "pink": (248, 152, 190),
    "brown": (134, 92, 62),
    "gray": (152, 152, 156),
    "black": (18, 18, 22),
}
# Where the corners are: (right, low).
CORNERS = {
    "top left": (0.0, 0.0),
    "top right": (1.0, 0.0),
    "bottom left": (0.0, 1.0),
    "bottom right": (1.0, 1.0),
}


def _border(picture: Image.Image) -> NDArray[np.float64]:
    """Median colour of the outermost three pixels."""
    a = np.asarray(picture, dtype=float)
    edge = np.concatenate(
        [a[:3].reshape(-1, 3), a[-3:].reshape(-1, 3), a[:, :3].reshape(-1, 3), a[:, -3:].reshape(-1, 3)]
    )
    return np.median(edge, axis=0)


def has_background(picture: Image.Image, word: str) -> bool:
    """The border's colour is nearer to the named colour than to any other, or to white."""
    table = {**COLOURS, "white": (255, 255, 255)}
    distance = {w: float(np.abs(_border(picture) - np.array(c)).sum()) for w, c in table.items()}
    return min(distance, key=lambda w: distance[w]) == word


def drawn_box(
    picture: Image.Image, background: NDArray[np.float64] | None = None
) -> tuple[float, float, float, float] | None:
    """Left, top, right, bottom (0..1) of what differs from a colour, its border's if none is given; None:
    nothing does.
    """
    a = np.asarray(picture, dtype=float)
    mask = np.abs(a - (_border(picture) if background is None else background)).sum(-1) > 70
    # A column or row with less than two drawn pixels is noise of the decoder.
    columns, rows = np.flatnonzero(mask.sum(0) > 1), np.flatnonzero(mask.sum(1) > 1)
    if not len(columns) or not len(rows):
        return None
    height, width = mask.shape
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height


def is_small(picture: Image.Image) -> bool:
    """Drawn within two thirds of the width and of the height."""
    box = drawn_box(picture)
    return box is not None and max(box[2] - box[0], box[3] - box[1]) <= 0.66


def in_corner(picture: Image.Image, where: str) -> bool:
    """Small, and its middle lies in the named quarter."""
    box = drawn_box(picture)
    if box is None or not is_small(picture):
        return False
    right, low = CORNERS[where]
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return (x > 0.5) == bool(right) and (y > 0.5) == bool(low)


def is_pair(picture: Image.Image) -> bool:
    """Something drawn left and right, with a gap between them near the middle."""
    a = np.asarray(picture, dtype=float)
    mask = np.abs(a - _border(picture)).sum(-1) > 70
    n = a.shape[1]
    columns = mask.mean(0)
    gap = columns[round(0.42 * n) : round(0.58 * n)].min()
    return bool(mask[:, : n // 2].mean() > 0.06 and mask[:, n // 2 :].mean() > 0.06 and gap < 0.03)


def cut_out(picture: Image.Image, left: float = 1.0) -> Image.Image:
    """What is drawn in the left part of the picture, alone on white, as large as the picture.

    Args:
        left: how much of the width to look at; 0.5 for the first of a pair.
    """
    part = picture.crop((0, 0, round(picture.width * left), picture.height))
    box = drawn_box(part, background=_border(picture))
    if box is None:
        return Image.new("RGB", picture.size, "white")
    width, height = part.size
    thing = part.crop((box[0] * width, box[1] * height, box[2] * width, box[3] * height))
    pixels = np.asarray(thing, dtype=float)
    empty = np.abs(pixels - _border(picture)).sum(-1, keepdims=True) <= 70
    thing = Image.fromarray(np.where(empty, 255, pixels).astype(np.uint8))
    side = max(thing.size)
    canvas = Image.new("RGB", (side, side), "white")
    canvas.paste(thing, ((side - thing.width) // 2, (side - thing.height) // 2))
    return canvas.resize(picture.size, Image.Resampling.LANCZOS)
