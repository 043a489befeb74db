"""Numbers to pictures."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor


def to_image(pixels: Tensor) -> Image.Image:
    """(3, h, w) in -1..1 -> RGB; rounded, not cut."""
    levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).numpy())
