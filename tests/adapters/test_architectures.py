"""The lists of modules are those of the classes themselves, at true size without the memory for it."""

# diffusers annotates more narrowly than it accepts.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lorastyle.adapters.architectures import family_modules

UNETS: dict[str, dict[str, Any]] = {
    "sd1": {"cross_attention_dim": 768},
    "sd2": {
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
TEXTS: dict[str, list[tuple[type[Any], int, int, int]]] = {
    "sd1": [(CLIPTextModel, 12, 768, 12)],
    "sd2": [(CLIPTextModel, 23, 1024, 16)],
    "sdxl": [(CLIPTextModel, 12, 768, 12), (CLIPTextModelWithProjection, 32, 1280, 20)],
}


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    kinds = nn.Linear | nn.Conv2d | nn.LayerNorm | nn.GroupNorm
    return {path: tuple(m.weight.shape) for path, m in model.named_modules() if isinstance(m, kinds)}


@pytest.mark.parametrize("family", UNETS)
def test_modules_of(family: str) -> None:
    with torch.device("meta"):
        models: dict[str, nn.Module] = {"unet": UNet2DConditionModel(**UNETS[family])}
        for name, (kind, layers, width, heads) in zip(
            ("text_encoder", "text_encoder_2"), TEXTS[family], strict=False
        ):
            models[name] = kind(
                CLIPTextConfig(
                    hidden_size=width,
                    intermediate_size=4 * width,
                    num_hidden_layers=layers,
                    num_attention_heads=heads,
                    projection_dim=width,
                )
            )
    listed = family_modules(family)
    assert listed is not None and set(listed) == set(models)
    for name, model in models.items():
        prefix = "text_model."  # which comes and goes with versions of transformers
        ours = {path.removeprefix(prefix): shape for path, shape in listed[name].items()}
        assert ours == {path.removeprefix(prefix): shape for path, shape in shapes_of(model).items()}
    counted = sum(len(shape) > 1 for shape in listed["unet"].values())
    assert counted == {"sd1": 282, "sd2": 282, "sdxl": 794}[family]  # 4 or 6 more than carry LoRAs


def test_other_families_have_none() -> None:
    assert family_modules("lorastyle-icons") is None and family_modules("flux") is None
