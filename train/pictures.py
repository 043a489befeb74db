"""Pictures as the base takes them: squares of one size, and what is said of how they were framed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lorastyle.pictures import open_picture

MUCH_CROPPED = 1 / 3  # of the picture: worth a note


def size_notes(size: tuple[int, int], resolution: int) -> tuple[str, ...]:
    """What making a picture a square of `resolution` pixels a side does to it, where that is much."""
    notes: list[str] = []
    short, long = min(size), max(size)
    if short < resolution:
        notes.append(f"smaller than the resolution: enlarged {resolution / short:.1f}x")
    if 1 - short / long > MUCH_CROPPED:
        notes.append(f"cropped to its middle square, which leaves out {1 - short / long:.0%}")
    return tuple(notes)


def framing(size: tuple[int, int], resolution: int) -> tuple[float, ...]:
    """What SDXL is told of a picture (width, height) that `square` made: its six time ids.

    Height and width before it was resized, top and left of the crop in pixels of the resized picture, height
    and width of the crop (Podell et al. 2023, arXiv:2307.01952, section 2.2). Each picture has its own, so
    that neither enlarged nor cropped pictures teach the adapter to draw such.
    """
    width, height = size
    scale = resolution / min(size)
    left, top = (int((side - min(size)) / 2 * scale) for side in size)
    return float(height), float(width), float(top), float(left), float(resolution), float(resolution)


def square(image: Image.Image, resolution: int) -> NDArray[np.uint8]:
    """RGB pixels (resolution, resolution, 3): the short side fitted, the middle of the long side."""
    side = min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
    box = (left, top, left + side, top + side)
    return np.array(image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box), dtype=np.uint8)


def load_pixels(path: Path, resolution: int, background: str = "white") -> Tensor:
    """The picture as float32 pixels (3, resolution, resolution) in -1..1; see `open_picture` and `square`.

    Raises:
        Unusable: see `open_picture`.
    """
    pixels = square(open_picture(path, background).image, resolution)
    return torch.from_numpy(pixels).permute(2, 0, 1).float().contiguous() / 127.5 - 1
