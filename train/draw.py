"""Pictures from prompts with whatever is attached to the base: samples, sheets, class pictures.

DDIM without added noise (Song et al. 2021, arXiv:2010.02502) and classifier-free guidance. Every picture
starts from a CPU generator of its own seed, and the global generators are not touched: drawing in the
middle of a training changes nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image
from torch import Tensor

from lorastyle.bases import StableDiffusion
from lorastyle.generate import denoise

STEPS = 20


@torch.no_grad()
def draw(
    base: StableDiffusion,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    resolution: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    batch: int | None = None,
    clip_skip: int = 1,
    keep_going: Callable[[int], bool] = lambda done: True,
) -> list[Image.Image]:
    """One square RGB picture per prompt and seed.

    Args:
        resolution: pixels a side; None means the base's own.
        steps: of denoising; None means STEPS.
        guidance: None means the base's own.
        batch: pictures a batch; None means what is quick at this resolution.
        clip_skip: which layer of the text encoder is read; 1 is the last.
        keep_going: called with the number of finished pictures after each batch; False ends early.
    """
    side = resolution or base.resolution
    many = batch or max(1, 8 * 128 * 128 // (side * side))
    if len({base.chunks(prompt) for prompt in prompts}) > 1:
        many = 1  # or a picture would depend on how long its neighbours' prompts are
    pictures: list[Image.Image] = []
    for i in range(0, len(prompts), many):
        some = prompts[i : i + many]
        latents = denoise(
            base,
            *base.read(some, [""] * len(some), clip_skip=clip_skip),
            DDIMScheduler.from_config(base.pipe.scheduler.config, clip_sample=False),
            [torch.Generator().manual_seed(seed) for seed in seeds[i : i + many]],
            (side, side),
            steps=steps or STEPS,
            guidance=base.guidance if guidance is None else guidance,
            guidance_rescale=base.guidance_rescale,
        )
        pictures += [_picture(pixels) for pixels in base.decode(latents).float().cpu()]
        if not keep_going(len(pictures)):
            break
    return pictures


def _picture(pixels: Tensor) -> Image.Image:
    """An RGB picture of pixels (3, h, w) in -1..1."""
    values = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(values.permute(1, 2, 0).numpy()))
