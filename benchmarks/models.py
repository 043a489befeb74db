"""Stable Diffusion 1.5, 2.1 and XL at true size with random weights, as the benchmarks measure them."""

# diffusers and transformers annotate more narrowly than they accept.
# pyright: reportArgumentType=false

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lorastyle.bases.clip_words import clip_tokenizer

_SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def make_unet(family: str, dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """The UNet of "sd1", "sd2" or "sdxl"; on the meta device it has no weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # made in it: never twice the bytes
    try:
        return _unet(family)
    finally:
        torch.set_default_dtype(before)


def _unet(family: str) -> UNet2DConditionModel:
    if family == "sd1":
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    if family == "sd2":
        return UNet2DConditionModel(
            sample_size=96,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        )
    return UNet2DConditionModel(
        sample_size=128,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(320, 640, 1280),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def make_autoencoder() -> AutoencoderKL:
    """The autoencoder that all three families share the shape of."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
    )


def make_clip_l() -> CLIPTextModel:
    """The text encoder of SD 1.x, and SDXL's first: CLIP ViT-L/14."""
    return CLIPTextModel(_text(768, layers=12, heads=12, act="quick_gelu"))


def make_clip_big_g() -> CLIPTextModelWithProjection:
    """SDXL's second text encoder: OpenCLIP ViT-bigG/14."""
    return CLIPTextModelWithProjection(_text(1280, layers=32, heads=20, act="gelu"))


def make_pipeline(
    family: str, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Any:
    """diffusers' pipeline of "sd1" or "sdxl", made on the device.

    Args:
        dtype: of the UNet; the rest is float32.
    """
    with device or nullcontext():
        unet, vae, first = make_unet(family, dtype), make_autoencoder(), make_clip_l()
    if family == "sd1":
        return StableDiffusionPipeline(
            vae=vae,
            text_encoder=first,
            tokenizer=clip_tokenizer(),
            unet=unet,
            scheduler=DDIMScheduler(**_SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    vae.register_to_config(scaling_factor=0.13025)
    with device or nullcontext():
        second = make_clip_big_g()
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(pad="!"),
        unet=unet,
        scheduler=EulerDiscreteScheduler(**_SCHEDULE, steps_offset=1),
        add_watermarker=False,
    )


def _text(width: int, *, layers: int, heads: int, act: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49_408,
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=77,
        hidden_act=act,
        bos_token_id=49_406,
        eos_token_id=49_407,
        pad_token_id=49_407,
    )
