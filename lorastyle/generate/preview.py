"""What the running pictures look like so far: when to look, and small pictures of the latents."""

from __future__ import annotations

import time
from collections.abc import Callable

from PIL import Image

from lorastyle.bases import is_out_of_memory, release_memory
from lorastyle.notes import note

from .levels import to_image
from .sampling import Step
from .sketchers import Sketcher

SIDE = 512  # pixels of a preview's longer side, at most
EVERY = 0.3  # seconds between two previews, at least
SHARE = 10  # times what the last one took is waited before the next, so that previews take a tenth at most

OnPreview = Callable[[list[Image.Image]], None]


class Previews:
    """Shows a request's pictures as they come to be: the first step of each batch, then now and then.

    Args:
        sketch: latents to pictures, quickly.
        show: called with one picture for each of the batch; its time counts as the previews' own.
        pixels_per_latent: how many pixels a latent stands for.
    """

    def __init__(self, sketch: Sketcher, show: OnPreview, pixels_per_latent: int) -> None:
        self._sketch, self._show, self._pixels = sketch, show, pixels_per_latent
        self._next = 0.0
        self._short = False

    def begin(self) -> None:
        """A batch begins, of which nothing was seen yet."""
        self._next = 0.0

    def __call__(self, step: Step) -> None:
        """Show what a step leads to, if it is time. Where memory is too small for that, a note says so."""
        if self._short or time.monotonic() < self._next:
            return
        try:
            self._look(step)
        except (RuntimeError, MemoryError, OSError) as error:
            if not is_out_of_memory(error):
                raise
            self._short = True
        if self._short:  # outside of `except`, which holds on to what filled the memory
            release_memory(step.latents.device)
            note("There is too little memory for previews: the images are drawn without.")

    def _look(self, step: Step) -> None:
        clean = step.estimate().cpu()  # waits for the device, whose time is the step's and not the preview's
        began = time.monotonic()
        sides = [side * self._pixels for side in clean.shape[-2:]]
        share = min(1.0, SIDE / max(sides))
        height, width = (max(1, round(side * share)) for side in sides)
        self._show([_resized(to_image(one), (width, height)) for one in self._sketch(clean).nan_to_num()])
        now = time.monotonic()
        self._next = now + max(EVERY, SHARE * (now - began))


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture.resize(size, Image.Resampling.BICUBIC)
