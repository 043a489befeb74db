"""Which memory mode a request fits in."""

from __future__ import annotations

from lorastyle.bases import Choice, StableDiffusion, choose_for_drawing

from .canvas import picture_size
from .request import GenerateRequest

PICTURES_AT_ONCE = 4


def choose_memory(base: StableDiffusion, request: GenerateRequest) -> Choice:
    """How `base` should be kept to draw `request`, and how many pictures at once. Nothing is moved yet:
    `base.placement.arrange(choice.mode)` does it.

    Args:
        base: loaded with `memory=None`, so that its weights are still in the machine's memory.

    Raises:
        BaseError: nothing fits the device; with what each mode would want.
        PictureError: the picture that it starts from cannot be read.
    """
    width, height = picture_size(request, base.resolution)
    pixels = round(width * height * request.hires**2)
    return choose_for_drawing(base, pixels, min(request.number, PICTURES_AT_ONCE))
