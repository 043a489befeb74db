"""Stable Diffusion 1.5 and XL with random weights, made on the device; no file is read or written."""

# diffusers and transformers annotate more narrowly than they accept.
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.memory import make_autoencoder, make_unet
from lorastyle.bases import StableDiffusion, open_pipeline
from lorastyle.bases.clip_words import clip_tokenizer
from lorastyle.bases.quiet import quiet

DTYPE = torch.bfloat16
_SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@dataclass(frozen=True)
class Family:
    """A family as the benchmark knows it.

    Attributes:
        kind: as lorastyle calls it; title: as people do.
        bar: bytes of a card that training at the native size has to fit; rounded: with layers rounded.
    """

    kind: str
    title: str
    bar: int
    rounded: int


FAMILIES = {
    "sd15": Family("sd1", "SD 1.5", 8 * 10**9, 8 * 10**9),
    "sdxl": Family("sdxl", "SDXL", 16 * 10**9, 12 * 10**9),
}


def make_base(name: str, device: torch.device, *, tiny: bool = False) -> StableDiffusion:
    """A base of this family, all of it on the device; `tiny` is one of some thousand weights."""
    kind = FAMILIES[name].kind
    with quiet(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        pipe = _tiny(kind, device) if tiny else _true_size(kind, device)
        pipe.set_progress_bar_config(disable=True)
        return open_pipeline(pipe, name=name, family=kind, dtype=DTYPE, device=device)


def _tiny(kind: str, device: torch.device) -> Any:
    from tests.tiny import tiny_pipeline, tiny_xl_pipeline

    pipe: Any = tiny_xl_pipeline() if kind == "sdxl" else tiny_pipeline(prediction_type="epsilon")
    pipe.unet.to(DTYPE)
    return pipe.to(device)


def _true_size(kind: str, device: torch.device) -> Any:
    with device:
        with _default(DTYPE):
            unet = make_unet(kind)
        vae = make_autoencoder()
        first = CLIPTextModel(_text(768, 12, 12, "quick_gelu", end=49_407))
    words = clip_tokenizer()
    if kind == "sd1":
        return StableDiffusionPipeline(
            vae=vae,
            text_encoder=first,
            tokenizer=words,
            unet=unet,
            scheduler=DDIMScheduler(**_SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    vae.register_to_config(scaling_factor=0.13025)
    with device:
        second = CLIPTextModelWithProjection(_text(1280, 32, 20, "gelu", end=49_407))
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=words,
        tokenizer_2=clip_tokenizer(pad="!"),
        unet=unet,
        scheduler=EulerDiscreteScheduler(**_SCHEDULE, steps_offset=1),
        add_watermarker=False,
    )


def _text(width: int, layers: int, heads: int, act: str, *, end: int) -> CLIPTextConfig:
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
        eos_token_id=end,
        pad_token_id=end,
    )


@contextmanager
def _default(dtype: torch.dtype) -> Generator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
