"""How much of a picture is left at each timestep."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor


def noise_schedule(config: Any) -> Tensor:
    """alpha-bar of every timestep (DDPM, arXiv 2006.11239), as the scheduler's config describes it."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    scheduler = cast(Any, DDPMScheduler).from_config(config)
    return cast(Tensor, scheduler.alphas_cumprod)
