"""Where an adapter acts, from the words of its region to a number for each pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from lorastyle.errors import PictureError

from .named_pictures import read_mask, recorded_hash
from .region import Box
from .uses import AdapterUse

SHAPES_DIFFER = 0.01  # how far a mask may be from the picture's shape: what whole pixels make of it


def field_of(use: AdapterUse, size: tuple[int, int]) -> tuple[AdapterUse, Tensor]:
    """The field of an adapter with a region, (height, width) in 0..1; and its use with the mask's hash.

    Args:
        size: (height, width) of the picture in pixels.

    Raises:
        PictureError: the mask cannot be read, is empty, or has another shape than the picture.
    """
    region = use.region
    assert region is not None
    if region.picture is None:
        assert region.box is not None
        mask = _rectangle(region.box, size)
    else:
        read, digest = read_mask(region.picture)
        mask = _fitted(use, region.picture, read, size)
        use = replace(use, mask_hash=recorded_hash(region.picture, digest, use.mask_hash))
    field = np.asarray(mask, np.float32) / 255
    if region.outside:
        field = 1 - field
    if not field.any():
        raise PictureError(f'The mask "{use.mask}" of the adapter "{use.name}" leaves nothing to act on.')
    if region.soft:  # a Gaussian of standard deviation s goes from 2 % to 98 % of an edge within 4 s
        blur = ImageFilter.GaussianBlur(region.soft * min(size) / 4)
        soft = Image.fromarray((field * 255).round().astype(np.uint8)).filter(blur)
        field = np.asarray(soft, np.float32) / 255
    return use, torch.from_numpy(field.copy())


def _rectangle(box: Box, size: tuple[int, int]) -> Image.Image:
    """At least one pixel of it."""
    height, width = size
    left, top, right, bottom = (round(s * side) for s, side in zip(box, (width, height) * 2, strict=True))
    left, top = min(left, width - 1), min(top, height - 1)
    mask = Image.new("L", (width, height))
    mask.paste(255, (left, top, max(right, left + 1), max(bottom, top + 1)))
    return mask


def _fitted(use: AdapterUse, name: str, mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    if abs(mask.width * height / (mask.height * width) - 1) > SHAPES_DIFFER:
        raise PictureError(
            f'The mask {name} of the adapter "{use.name}" has {mask.width} x {mask.height} pixels, the '
            f"picture {width} x {height}: it must have the same shape. Crop one of them."
        )
    return mask.resize((width, height), Image.Resampling.BILINEAR)
