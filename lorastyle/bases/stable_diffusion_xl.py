"""Stable Diffusion XL: two text encoders, a pooled sentence, and how each picture was framed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lorastyle.errors import BaseError

from .prompt_embeds import PromptEmbeds
from .stable_diffusion import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL (Podell et al. 2023, arXiv:2307.01952) behind the same small class.

    Cross-attention reads the layer before the last of both text encoders, side by side and without a last
    norm; the second one's projection is the pooled sentence.
    """

    inpainting_strength = 0.99  # pure noise blurs what SDXL Inpainting 0.1 draws, as its model card tells

    def _empty_negative(self, embeds: PromptEmbeds) -> PromptEmbeds:
        """Zeros, where the pipeline's config says that the base was trained so."""
        if not self.pipe.config.get("force_zeros_for_empty_prompt", False) or embeds.pooled is None:
            return embeds
        return PromptEmbeds(torch.zeros_like(embeds.tokens), torch.zeros_like(embeds.pooled))

    def unread_layers(self, component: str, clip_skip: int = 1) -> range:
        """As of `StableDiffusion`; the second text encoder is read to its end, for the pooled sentence."""
        return super().unread_layers(component, max(2, clip_skip))

    def _encode(self, ids: Sequence[Tensor], clip_skip: int) -> PromptEmbeds:
        skip = max(2, clip_skip)
        states = [reader.states(some, skip) for reader, some in zip(self.readers, ids, strict=True)]
        return PromptEmbeds(torch.cat([hidden for hidden, _ in states], dim=-1), states[-1][1])

    def _more_inputs(
        self, noisy: Tensor, prompt_embeds: PromptEmbeds, time_ids: Tensor | None
    ) -> dict[str, Any]:
        if time_ids is None:
            height, width = (side * self.pixels_per_latent for side in noisy.shape[-2:])
            time_ids = torch.tensor([[height, width, 0, 0, height, width]] * len(noisy))
        # float32 until the UNet has made sines of them: bfloat16 knows no 1,023
        time_ids = time_ids.to(noisy.device, torch.float32)
        return {"added_cond_kwargs": {"text_embeds": prompt_embeds.pooled, "time_ids": time_ids}}

    def _check_family(self) -> None:
        if (
            getattr(self.pipe, "text_encoder", None) is None
            or getattr(self.pipe, "text_encoder_2", None) is None
        ):
            raise BaseError(
                f'The base "{self.name}" lacks one of the two text encoders of Stable Diffusion XL. It may '
                "be the refiner, which draws details only: choose the base model."
            )
