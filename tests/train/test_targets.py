"""Modules in which nothing can be learnt carry no adapter, and all others learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from lorastyle.bases import StableDiffusion
from lorastyle.errors import TargetError
from lorastyle.train import fit, make_plan, scan
from lorastyle.train.targets import alone
from tests.tiny import seeded, tiny_pipeline
from tests.train.running import short

MIDDLE = "mid_block.attentions.0.transformer_blocks.0.attn1"


def unet(**config: Any) -> UNet2DConditionModel:
    """Four levels, as SD 1.5 has them: eight latents are one place in the middle."""
    tiny: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 8, 16, 16),
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    with seeded(3):
        return UNet2DConditionModel(**{**tiny, **config})


@pytest.fixture(scope="module")
def deep() -> StableDiffusion:
    pipe = tiny_pipeline()
    pipe.unet = unet().eval()
    return StableDiffusion(pipe, name="deep", dtype=torch.float32)


def test_training_at_the_smallest_size_is_not_refused(
    deep: StableDiffusion, images: Path, out: Path, quick: None
) -> None:
    config = short(images, out, resolution=64, sheet=False)
    assert fit(config, base=deep).steps == config.steps  # raises where a tensor has no gradient by step 2


def test_queries_and_keys_of_one_place_are_left_out_and_told(deep: StableDiffusion, images: Path) -> None:
    settings = [short(images, images / "a.safetensors", resolution=side) for side in (64, 72)]
    small, larger = (make_plan(config, deep, scan(config)) for config in settings)
    left_out = set(larger.targets["unet"]) - set(small.targets["unet"])
    assert left_out == {f"{MIDDLE}.to_q", f"{MIDDLE}.to_k"}
    assert any("At 64 pixels" in note and "2 of its queries" in note for _, note in small.notes)
    assert not any("queries" in note for _, note in larger.notes)


def test_nothing_else_among_the_targets_is_refused_with_the_cause(
    deep: StableDiffusion, images: Path
) -> None:
    config = short(images, images / "a.safetensors", resolution=64, targets=(f"{MIDDLE}.to_q",))
    with pytest.raises(TargetError, match=r"At 64 pixels .* one place.* larger --resolution"):
        make_plan(config, deep, scan(config))


@pytest.mark.parametrize(
    ("side", "config", "count"),
    [
        (8, {}, 2),
        (9, {}, 0),
        (16, {}, 0),
        (4, {}, 8),
        (1, {}, 20),
        (1, {"only_cross_attention": True}, 2),
        (
            4,
            {
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
                "block_out_channels": (8, 8, 16),
            },
            8,
        ),
        (8, {"mid_block_type": None}, 0),
    ],
)
def test_they_are_those_that_get_no_gradient(side: int, config: dict[str, Any], count: int) -> None:
    """Asked of the UNet itself, whatever blocks it has."""
    model = unet(**config).double()
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    answer = model(noise(1, 4, side, side), torch.tensor([500]), encoder_hidden_states=noise(1, 7, 16)).sample
    answer.square().sum().backward()
    largest = {n: float(w.grad.abs().max()) for n, w in model.named_parameters() if w.grad is not None}
    still = {  # some processors leave rounding where the gradient is 0
        name.removesuffix(".weight")
        for name, most in largest.items()
        if name.endswith((".to_q.weight", ".to_k.weight")) and most < 1e-9 * max(largest.values())
    }
    assert alone(model, side) == still
    assert len(still) == count
