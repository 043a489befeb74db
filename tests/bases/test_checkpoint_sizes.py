"""Sizes of checkpoints' parts: the real ones on the meta device, and smaller UNets."""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lorastyle.bases.single_file.parts import Part, Shapes
from lorastyle.bases.single_file.text import clip_part, open_clip_part
from lorastyle.bases.single_file.unet import unet_part
from lorastyle.bases.single_file.vae import vae_part
from tests.original import (
    clip_tensors,
    open_clip_tensors,
    unet_tensors,
    vae_tensors,
)

SD1_UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "layers_per_block": 2,
    "transformer_layers_per_block": 1,
    "reverse_transformer_layers_per_block": None,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "use_linear_projection": False,
}
SD2_UNET = {
    **SD1_UNET,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
SDXL_UNET = {
    **SD2_UNET,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "addition_embed_type": "text_time",
    "projection_class_embeddings_input_dim": 2816,
}
# BK-SDM-Small: one block a level, no mid block; SSD-1B: other depths on the way up, a short mid block
BK_SDM = {**SD1_UNET, "layers_per_block": 1, "mid_block_type": None}
SSD_1B = {
    **SDXL_UNET,
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": (1, 2, 4),
    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
}
ODD_LAYERS = {**SD1_UNET, "layers_per_block": (1, 2, 3, 1)}
UNETS = {
    "sd1": (SD1_UNET, None),
    "sd2": (SD2_UNET, 64),
    "sdxl": (SDXL_UNET, 64),
    "bk-sdm": (BK_SDM, None),
    "ssd-1b": (SSD_1B, 64),
    "odd": (ODD_LAYERS, None),
    "inpainting": ({**SD1_UNET, "in_channels": 9}, None),
}
CLIP_L: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
CLIP_H = {
    **CLIP_L,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "projection_dim": 1024,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
CLIP_G = {
    **CLIP_H,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "projection_dim": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
}


def shapes_of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in tensors.items()}


def assert_complete(part: Part, shapes: Shapes, module: nn.Module) -> None:
    """Every weight of the module has a source of its shape, and no tensor of the file is left over."""
    assert {name: source.shape(shapes[source.key]) for name, source in part.sources.items()} == {
        name: tuple(weight.shape) for name, weight in module.state_dict().items()
    }


@pytest.mark.parametrize("name", UNETS)
def test_unets_of_true_size(name: str) -> None:
    config, head_size = UNETS[name]
    more = {"addition_time_embed_dim": 256} if "addition_embed_type" in config else {}
    with init_empty_weights():
        unet = UNet2DConditionModel(**config, **more)
    shapes = shapes_of("model.diffusion_model.", unet_tensors(unet))
    assert len(shapes) == len(unet.state_dict())
    part = unet_part(shapes, head_size=head_size)
    assert_complete(part, shapes, unet)
    found = dict(part.config)
    if name == "bk-sdm":  # without a mid block the last level's depth is nobody's
        found["reverse_transformer_layers_per_block"] = None
    assert found == config
    with pytest.raises(AssertionError):
        assert_complete(part, {**shapes, "model.diffusion_model.out.2.bias": (5,)}, unet)


def test_the_autoencoder_of_true_size() -> None:
    config: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
    }
    with init_empty_weights():
        vae = AutoencoderKL(**config)
    shapes = shapes_of("first_stage_model.", vae_tensors(vae))
    assert len(shapes) == len(vae.state_dict())
    part = vae_part(shapes)
    assert_complete(part, shapes, vae)
    assert part.config == config


@pytest.mark.parametrize(
    ("config", "kind"),
    [(CLIP_L, CLIPTextModel), (CLIP_H, CLIPTextModel), (CLIP_G, CLIPTextModelWithProjection)],
)
def test_text_encoders_of_true_size(config: dict[str, Any], kind: Any) -> None:
    with init_empty_weights():
        model = kind(CLIPTextConfig(**config))
    if config is CLIP_L:
        shapes = shapes_of("p.", clip_tensors(model))
        part = clip_part(shapes, "p.")
    else:
        shapes = shapes_of("p.", open_clip_tensors(model))
        part = open_clip_part(shapes, "p.", projection=config is CLIP_G)
    wrapped = any(name.startswith("text_model.") for name in model.state_dict())
    bare = {name if wrapped else name.removeprefix("text_model."): s for name, s in part.sources.items()}
    assert_complete(Part(part.config, bare), shapes, model)
    assert part.config == config


@pytest.mark.parametrize(("blocks", "projected", "read"), [(24, True, 23), (24, False, 23), (23, False, 23)])
def test_sd2_reads_23_blocks(blocks: int, projected: bool, read: int) -> None:
    config = {**CLIP_H, "num_hidden_layers": blocks}
    with init_empty_weights():
        tower = open_clip_tensors(CLIPTextModel(CLIPTextConfig(**config)))
    shapes = {f"p.{name}": tuple(t.shape) for name, t in tower.items()}
    if projected:
        shapes["p.text_projection"] = (1024, 1024)
    assert open_clip_part(shapes, "p.", projection=False).config["num_hidden_layers"] == read
