"""Which block a module is of, whatever its name is spelled like."""

from __future__ import annotations

import pytest

from lorastyle.adapters.architectures import family_modules
from lorastyle.adapters.blocks import block_of, common_name

# a module's path, its block, and that block's name in LoRA Block Weight (written down by hand)
SD1 = (
    ("conv_in", "conv_in", ""),
    ("time_embedding.linear_1", "time_embedding", ""),
    ("down_blocks.0.attentions.0.proj_in", "down_blocks.0.attentions.0", "IN01"),
    ("down_blocks.0.resnets.1.conv2", "down_blocks.0.resnets.1", "IN02"),
    ("down_blocks.0.downsamplers.0.conv", "down_blocks.0.downsamplers.0", "IN03"),
    ("down_blocks.1.attentions.0.transformer_blocks.0.ff.net.2", "down_blocks.1.attentions.0", "IN04"),
    ("down_blocks.2.attentions.1.proj_out", "down_blocks.2.attentions.1", "IN08"),
    ("mid_block.attentions.0.proj_in", "mid_block", "M00"),
    ("up_blocks.0.upsamplers.0.conv", "up_blocks.0.upsamplers.0", "OUT02"),
    ("up_blocks.1.attentions.0.proj_in", "up_blocks.1.attentions.0", "OUT03"),
    ("up_blocks.3.attentions.2.proj_in", "up_blocks.3.attentions.2", "OUT11"),
    ("conv_out", "conv_out", ""),
)


@pytest.mark.parametrize(("path", "name", "alias"), SD1)
def test_a_block_and_its_other_name(path: str, name: str, alias: str) -> None:
    block = block_of(path)
    assert (block.name, block.alias) == (name, alias)
    for spelled in (f"lora_unet_{path.replace('.', '_')}", f"unet.{path}", f"base_model.model.{path}"):
        assert block_of(spelled) == block


def test_blocks_come_as_the_base_runs_them() -> None:
    orders = [block_of(path).order for path, _, _ in SD1]
    assert orders == sorted(orders) and len(set(orders)) == len(orders)
    assert (
        block_of("up_blocks.0.attentions.2.proj_in").order < block_of("up_blocks.0.upsamplers.0.conv").order
    )


def test_attention_and_residual_block_of_one_place_are_one() -> None:
    attention, residual = (
        block_of("down_blocks.1.attentions.0.norm"),
        block_of("down_blocks.1.resnets.0.conv1"),
    )
    assert attention.order == residual.order != block_of("down_blocks.1.resnets.1.conv1").order
    assert common_name({attention.name, residual.name}) == "down_blocks.1.*.0"
    assert common_name({attention.name}) == "down_blocks.1.attentions.0"


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("text_model.encoder.layers.5.mlp.fc1", "layers.4-7"),
        ("lora_te2_text_model_encoder_layers_31_self_attn_q_proj", "layers.28-31"),
        ("text_projection", "others"),
        ("lora_unet_double_blocks_17_img_attn_qkv", "double_blocks.17"),
        ("transformer.single_transformer_blocks.3.attn.to_q", "single_transformer_blocks.3"),
        ("diffusion_model.input_blocks.4.1.proj_in", "input_blocks.4"),
    ],
)
def test_other_names(name: str, block: str) -> None:
    assert block_of(name).name == block and block_of(name).alias == ""


@pytest.mark.parametrize(("family", "attention"), [("sd1", 16), ("sd2", 16), ("sdxl", 11)])
def test_every_module_of_the_published_bases_has_one(family: str, attention: int) -> None:
    listed = family_modules(family)
    assert listed is not None
    blocks = {block_of(path).name for path in listed["unet"]}
    assert "others" not in blocks
    # of the 17 weights for SD 1.x and the 12 for SDXL one is the text encoder's; the middle has its own name
    assert sum("attentions" in name for name in blocks) + 1 == attention + ("mid_block" in blocks) - 1
