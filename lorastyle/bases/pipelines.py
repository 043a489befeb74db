"""Which class stands for which diffusers pipeline."""

from __future__ import annotations

from typing import Any

import torch

from .pipeline_parts import check_parts
from .stable_diffusion import StableDiffusion
from .stable_diffusion_xl import StableDiffusionXL


def open_pipeline(
    pipe: Any,
    *,
    name: str = "pipeline",
    family: str | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> StableDiffusion:
    """A pipeline object of yours as a base: a StableDiffusionXL where it has two text encoders.

    Args: as of `StableDiffusion`.

    Raises:
        BaseError: a part is missing, or the pipeline is of another family (Flux, Stable Diffusion 3, Kolors,
            a video model) or has parts that would be left out (a ControlNet).
    """
    check_parts(pipe, name)
    kind = StableDiffusionXL if hasattr(pipe, "text_encoder_2") else StableDiffusion
    return kind(pipe, name=name, family=family, dtype=dtype, device=device)
