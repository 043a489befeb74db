"""The hires pass: what was drawn, enlarged, is where a second round of steps starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from lorastyle.bases import StableDiffusion

from .canvas import Canvas
from .request import GenerateRequest
from .sampling import Start


@dataclass(frozen=True, eq=False)
class Hires:
    """A second pass.

    Attributes:
        size: (height, width) in pixels.
        grid: the same of the latents.
        canvas: what the mask keeps of the picture to start from, at that size; its latents are replaced by
            what was drawn. None where everything is drawn anew.
        strength: share of the steps that are taken.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    strength: float
    canvas: Start | None

    def start(self, drawn: Tensor) -> Start:
        """From the latents of the first pass (b, c, h, w): enlarged, and the picture's own where the mask
        keeps it.
        """
        latents = F.interpolate(drawn, size=self.grid, mode="bicubic", antialias=True)
        if self.canvas is None:
            return Start(latents, self.strength)
        if self.canvas.mask is not None:
            latents = torch.lerp(self.canvas.latents.to(latents), latents, self.canvas.mask.to(latents))
        return replace(self.canvas, latents=latents)


def hires_pass(request: GenerateRequest, base: StableDiffusion, canvas: Canvas | None) -> Hires | None:
    """The second pass of a complete request; None where it asks for none.

    Raises:
        BaseError: the latents of the picture to start from are not finite.
    """
    if request.hires == 1:
        return None
    height, width = (
        round(side * request.hires / 8) * 8
        for side in cast("tuple[int, int]", (request.height, request.width))
    )
    strength = cast(float, request.hires_strength)
    masked = None if canvas is None or canvas.mask is None else canvas.resized((width, height))
    return Hires(
        (height, width),
        (height // base.pixels_per_latent, width // base.pixels_per_latent),
        strength,
        None if masked is None else masked.start(base, strength),
    )
