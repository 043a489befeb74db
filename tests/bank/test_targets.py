"""Presets, names, endings and globs, counted on the architecture of SD 1.5."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from lorastyle.bank import AdapterBank, adaptable_modules, select_targets
from lorastyle.errors import TargetError
from tests.bank.adapters import random_adapter

SD15_UNET: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD15_TEXT_ENCODER: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**SD15_UNET)


@pytest.fixture(scope="module")
def text_encoder() -> CLIPTextModel:
    with torch.device("meta"):
        return CLIPTextModel(CLIPTextConfig(**SD15_TEXT_ENCODER))


@pytest.mark.parametrize(("preset", "count"), [("attention", 128), ("attention+ff", 192), ("all", 278)])
def test_unet_presets(unet: UNet2DConditionModel, preset: str, count: int) -> None:
    chosen = select_targets(unet, [preset], "unet")
    assert len(chosen) == len(set(chosen)) == count


@pytest.mark.parametrize(("preset", "count"), [("attention", 48), ("attention+ff", 72), ("all", 72)])
def test_text_encoder_presets(text_encoder: CLIPTextModel, preset: str, count: int) -> None:
    assert len(select_targets(text_encoder, [preset], "text_encoder")) == count


def test_presets_know_older_text_encoders_too() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.device("meta"):
                self.text_model = CLIPTextModel(CLIPTextConfig(**SD15_TEXT_ENCODER))

    assert len(select_targets(Wrapped(), ["attention+ff"], "text_encoder")) == 72


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("mid_block.attentions.0.proj_in", 1),
        ("to_q", 32),
        ("attn2.to_k", 16),
        ("mid_block.*", 12 + 2 * 3),
        ("*.attn2.to_[kv]", 32),
    ],
)
def test_names_endings_and_globs(unet: UNet2DConditionModel, pattern: str, count: int) -> None:
    assert len(select_targets(unet, [pattern], "unet")) == count


def test_patterns_add_up_in_the_models_order(unet: UNet2DConditionModel) -> None:
    chosen = select_targets(unet, ["attn2.to_k", "attention", "conv_in"], "unet")
    assert len(chosen) == 129 and chosen[0] == "conv_in"
    assert list(chosen) == sorted(chosen, key=list(adaptable_modules(unet)).index)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("atention", 'Did you mean "attention"?'),
        ("to_w", 'Did you mean "to_'),
        ("q", "Presets: attention, attention+ff, all. Its modules end in: "),
        ("mid_block", "It is a block; write 'mid_block.*'"),
        ("conv_norm_out", "conv_norm_out is a GroupNorm; only Linear and ungrouped Conv2d"),
        ("*.attn3.*", "No module of unet matches '*.attn3.*'"),
    ],
)
def test_zero_matches_is_an_error_that_helps(unet: UNet2DConditionModel, pattern: str, says: str) -> None:
    with pytest.raises(TargetError) as raised:
        select_targets(unet, ["attention", pattern], "unet")
    assert says in str(raised.value)


def test_no_pattern_and_unknown_component(unet: UNet2DConditionModel) -> None:
    with pytest.raises(TargetError, match="No targets for unet"):
        select_targets(unet, [], "unet")
    with pytest.raises(TargetError, match="allowed are unet, text_encoder, text_encoder_2"):
        select_targets(unet, ["attention"], "vae")


def test_part_of_a_word_matches_nothing() -> None:
    model = nn.ModuleDict({"flora": nn.Linear(2, 2), "lora": nn.Linear(2, 2)})
    assert select_targets(model, ["lora"], "unet") == ("lora",)


def test_grouped_convolutions_carry_no_adapter() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 1))
    assert select_targets(model, ["*"], "unet") == ("1",)


def test_the_same_modules_match_while_adapters_are_attached() -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.ModuleList([nn.Conv2d(4, 4, 3)])})
    before = select_targets(model, ["*"], "unet")
    bank = AdapterBank({"unet": model})
    bank.add(random_adapter("one", {"unet": model}, ["*"]))
    assert select_targets(model, ["*"], "unet") == before == ("a", "b.0")
