"""How large an adapter for Stable Diffusion 1.5 is, on its architecture with random factors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from lorastyle.adapters import Adapter, LowRank, load_adapter, read_info, save_adapter

RANK = 32
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def shapes_of(model: nn.Module, endings: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(module.weight.shape)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and name.endswith(tuple(f".{end}" for end in endings))
    }


@pytest.fixture(scope="module")
def sd15() -> dict[str, dict[str, tuple[int, ...]]]:
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
            )
        )
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964
    return {
        "attention": shapes_of(unet, ATTENTION),
        "unet": shapes_of(unet, ATTENTION + FEED_FORWARD),
        "text_encoder": shapes_of(text, TEXT),
    }


def test_module_counts(sd15: dict[str, dict[str, tuple[int, ...]]]) -> None:
    assert {part: len(shapes) for part, shapes in sd15.items()} == {
        "attention": 128,
        "unet": 192,
        "text_encoder": 72,
    }


def test_an_adapter_at_the_default_rank_takes_20_to_50_megabytes(
    sd15: dict[str, dict[str, tuple[int, ...]]], tmp_path: Path
) -> None:
    components = {
        part: {
            path: LowRank(torch.randn(RANK, *shape[1:]), torch.randn(shape[0], RANK, *shape[2:]), float(RANK))
            for path, shape in sd15[part].items()
        }
        for part in ("unet", "text_encoder")
    }
    adapter = Adapter("sd15", components)
    assert adapter.parameters == RANK * 589_824 and adapter.family == "sd1"
    path = save_adapter(adapter, tmp_path / "a.safetensors")
    assert 20e6 < path.stat().st_size < 50e6
    assert 0 < path.stat().st_size - 2 * adapter.parameters < 450e3  # the header
    info = read_info(path)
    assert info.family == "sd1" and info.components["unet"].modules == 192
    again = load_adapter(path, {part: sd15[part] for part in ("unet", "text_encoder")})
    assert again.parameters == adapter.parameters
    assert 16 * 589_824 * 2 < 20e6  # rank 16 would be too small a file
