"""Stable Diffusion pipelines with random weights that fit in a megabyte, for tests.

Every part is the class that SD 1.5 or SDXL uses; only the widths are small.
"""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer


def tiny_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that knows bytes only."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        vocabulary.write_text(json.dumps({w: i for i, w in enumerate(words)}))
        merges.write_text("#version: 0.2\n")
        return CLIPTokenizer(str(vocabulary), str(merges), model_max_length=32)


def tiny_vae() -> AutoencoderKL:
    """8x, with four latent channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
    )


def tiny_text_config(words: CLIPTokenizer, *, layers: int = 2, width: int = 16) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=32,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


@contextmanager
def watched(module: torch.nn.Module) -> Generator[list[torch.Tensor]]:
    """The first input of every call of a module."""
    seen: list[torch.Tensor] = []

    def watch(_: object, given: tuple[torch.Tensor, ...]) -> None:
        seen.append(given[0])

    hook = module.register_forward_pre_hook(watch)
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Weights of chance that depend on the seed alone, and the caller's generator as it was."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def inpainting(pipe: Any) -> Any:
    """A pipeline whose UNet has 9 input channels, as the class that it has in diffusers."""
    if isinstance(pipe, StableDiffusionXLPipeline):
        return StableDiffusionXLInpaintPipeline(**pipe.components, add_watermarker=False)
    return StableDiffusionInpaintPipeline(**pipe.components, requires_safety_checker=False)


def tiny_pipeline(
    *,
    prediction_type: str = "v_prediction",
    seed: int = 0,
    layers: int = 2,
    in_channels: int = 4,
    linear: bool = False,
) -> StableDiffusionPipeline:
    """UNet with attention at two levels, 8x autoencoder, two-layer text encoder; 64 x 64 pictures."""
    with seeded(seed):
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
            in_channels=in_channels,
            use_linear_projection=linear,  # as SD 2.x has it
        )
        vae = tiny_vae()
        tokenizer = tiny_tokenizer()
        text_encoder = CLIPTextModel(tiny_text_config(tokenizer, layers=layers))
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tiny_xl_pipeline(
    *, seed: int = 0, in_channels: int = 4, layers_per_block: int = 1
) -> StableDiffusionXLPipeline:
    """The same with two text encoders (16 and 24 wide), a pooled sentence and time ids, as SDXL has them."""
    with seeded(seed):
        words, more_words = tiny_tokenizer(), tiny_tokenizer()
        more_words.pad_token = "!"  # as SDXL's second tokenizer pads
        first = CLIPTextModel(tiny_text_config(words))
        second = CLIPTextModelWithProjection(tiny_text_config(more_words, layers=3, width=24))
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=layers_per_block,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=16 + 24,
            attention_head_dim=(2, 4),
            norm_num_groups=4,
            in_channels=in_channels,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8,
        )
        vae = tiny_vae()
    vae.register_to_config(scaling_factor=0.13025)
    return StableDiffusionXLPipeline(
        vae=vae.eval(),
        text_encoder=first.eval(),
        text_encoder_2=second.eval(),
        tokenizer=words,
        tokenizer_2=more_words,
        unet=unet.eval(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
    )
