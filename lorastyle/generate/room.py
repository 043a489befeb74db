"""Which memory mode a request fits in."""

from __future__ import annotations

from lorastyle.adapters import AdapterInfo, read_info
from lorastyle.bases import (
    IMAGES_AT_ONCE,
    Attached,
    Choice,
    StableDiffusion,
    choose_for_drawing,
    weight_bytes,
)

from .canvas import picture_size
from .request import GenerateRequest

_THIN = frozenset({"norm", "LoRA with bias"})  # change vectors, beside which a copy of them is nothing


def choose_memory(base: StableDiffusion, request: GenerateRequest) -> Choice:
    """How `base` should be kept to draw `request`, and how many pictures at once. Nothing is moved yet:
    `base.placement.arrange(choice.mode)` does it.

    Args:
        base: loaded with `memory=None`, so that its weights are still in the machine's memory.

    Raises:
        BaseError: nothing fits the device; with what each mode would want.
        PictureError: the picture that it starts from cannot be read.
        AdapterError: an adapter is not there or damaged.
    """
    width, height = picture_size(request, base.resolution)
    pixels = round(width * height * request.hires**2)
    infos = [read_info(use.find()) for use in request.adapters]
    return choose_for_drawing(base, pixels, min(request.number, IMAGES_AT_ONCE), attached_by(base, infos))


def attached_by(base: StableDiffusion, adapters: list[AdapterInfo]) -> Attached:
    """What adapters want beside `base`, by their headers: at most, since one that is not low rank is taken to
    change every weight of the parts that it is for.
    """
    changed = {
        component
        for info in adapters
        if info.algorithms.keys() - _THIN
        for component in info.components.keys() & base.components.keys()
    }
    element = next(base.components["unet"].parameters()).element_size()
    return Attached(
        factors=sum(info.parameters for info in adapters) * element,
        originals=sum(weight_bytes(base.components[component]) for component in changed),
        exact=any(info.algorithms.keys() - {"norm"} for info in adapters),
    )
