"""Pictures from prompts with whatever is attached to the base: samples, sheets, class pictures.

DDIM without added noise (Song et al. 2021, arXiv:2010.02502) and classifier-free guidance. Every picture
starts from a CPU generator of its own seed, and the global generators are not touched: drawing in the
middle of a training changes nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image
from torch import Tensor

from lorastyle.bases import StableDiffusion

STEPS = 20
GUIDANCE = 5.0


@torch.no_grad()
def draw(
    base: StableDiffusion,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    resolution: int | None = None,
    steps: int | None = None,
    guidance: float = GUIDANCE,
    batch: int | None = None,
    keep_going: Callable[[int], bool] = lambda done: True,
) -> list[Image.Image]:
    """One square RGB picture per prompt and seed.

    Args:
        resolution: pixels a side; None means the base's own.
        steps: of denoising; None means STEPS.
        batch: pictures a batch; None means what is quick at this resolution.
        keep_going: called with the number of finished pictures after each batch; False ends early.
    """
    side = resolution or base.resolution
    many = batch or max(1, 8 * 128 * 128 // (side * side))
    pictures: list[Image.Image] = []
    for i in range(0, len(prompts), many):
        latents = _denoise(base, prompts[i : i + many], seeds[i : i + many], side, steps or STEPS, guidance)
        pictures += [_picture(pixels) for pixels in base.decode(latents).float().cpu()]
        if not keep_going(len(pictures)):
            break
    return pictures


def _denoise(
    base: StableDiffusion,
    prompts: Sequence[str],
    seeds: Sequence[int],
    side: int,
    steps: int,
    guidance: float,
) -> Tensor:
    scheduler = cast(DDIMScheduler, DDIMScheduler.from_config(base.pipe.scheduler.config, clip_sample=False))
    scheduler.set_timesteps(steps, device=base.device)
    shape = (base.pipe.unet.config.in_channels, side // 8, side // 8)
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    latents = torch.stack(noise).to(base.device) * scheduler.init_noise_sigma
    embeddings = base.encode_prompts([*[""] * len(prompts), *prompts])
    for t in cast("list[Tensor]", scheduler.timesteps):
        timesteps = t.expand(2 * len(prompts))
        plain, guided = base.predict(latents.repeat(2, 1, 1, 1), timesteps, embeddings).chunk(2)
        answer = plain + guidance * (guided - plain)
        latents = cast(Tensor, scheduler.step(answer, t, latents, return_dict=False)[0])  # pyright: ignore[reportArgumentType]
    return latents


def _picture(pixels: Tensor) -> Image.Image:
    """An RGB picture of pixels (3, h, w) in -1..1."""
    values = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(values.permute(1, 2, 0).numpy()))
