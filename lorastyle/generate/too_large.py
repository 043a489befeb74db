"""The error where not even one image fits the memory, with what needs less."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch

from lorastyle.bases import MODES, StableDiffusion, is_out_of_memory
from lorastyle.errors import BaseError

from .prompt_syntax import compose
from .request import SIZES, GenerateRequest


class DoesNotFit(BaseError, torch.OutOfMemoryError):
    """Memory is too small for a single image."""


def does_not_fit(base: StableDiffusion, request: GenerateRequest, mode: str) -> DoesNotFit:
    """The error for a complete request.

    Args:
        mode: of the engine.
    """
    width, height = request.width or base.resolution, request.height or base.resolution
    device = base.device
    less: list[str] = []
    smaller = [side * 3 // 4 // 8 * 8 for side in (width, height)]
    if min(smaller) >= SIZES[0]:
        less.append(f"a smaller size such as {smaller[0]}x{smaller[1]}")
    if request.hires != 1:
        less.append("no hires pass")
    if len(compose(request.prompt)) > 1:
        less.append("fewer prompts joined by AND")
    if request.combine == "composite":
        less.append("no combine, which asks once for each adapter at once")
    if any(use.mask or use.words for use in request.adapters):
        less.append("adapters without masks or words")
    if mode == "fused":
        less.append('mode "bank"')
    names = list(MODES)
    if device.type != "cpu" and (below := names[names.index(base.placement.mode.name) + 1 :]):
        less.append(f"memory {' or '.join(below)}")
    more = f", or try with less: {', '.join(less)}" if less else ""
    return DoesNotFit(
        f"The memory of {device} is too small for one image of {width}x{height} pixels. Close what else uses "
        f"it{more}."
    )


@contextmanager
def telling_size(base: StableDiffusion, request: GenerateRequest, mode: str) -> Generator[None]:
    """Turn memory that ran out, before a batch is drawn, into `does_not_fit`."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error) or isinstance(error, BaseError):
            raise
        raise does_not_fit(base, request, mode) from error
