"""The names of blocks, and factors for them."""

from __future__ import annotations

import pytest

from lorastyle.adapters import BLOCKS, BlockWeights, block_name
from lorastyle.adapters.architectures import family_modules
from lorastyle.errors import ConfigError


@pytest.mark.parametrize(
    ("path", "block"),
    [
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "IN01"),
        ("down_blocks.1.attentions.1.proj_in", "IN05"),
        ("down_blocks.2.downsamplers.0.conv", "IN09"),
        ("conv_in", "IN00"),
        ("mid_block.attentions.0.proj_in", "MID"),
        ("up_blocks.1.attentions.0.proj_in", "OUT03"),
        ("up_blocks.3.resnets.2.conv1", "OUT11"),
        ("time_embedding.linear_1", "OTHER"),
        ("conv_out", "OTHER"),
    ],
)
def test_where_a_module_lies(path: str, block: str) -> None:
    assert block_name("unet", path) == block
    assert block_name("text_encoder", path) == "BASE"


@pytest.mark.parametrize(
    ("family", "count", "pattern"),
    [("sd1", 17, "attentions"), ("sd1", 26, "blocks."), ("sdxl", 12, "attentions"), ("sdxl", 20, "blocks.")],
)
def test_a_list_names_every_block_that_it_is_for(family: str, count: int, pattern: str) -> None:
    modules = family_modules(family)
    assert modules is not None
    found = {block_name("unet", path) for path in modules["unet"] if pattern in path}
    weights = BlockWeights.parse(",".join(["1"] * count), family)
    assert found <= weights.factors.keys()
    if pattern == "attentions":
        assert weights.factors.keys() == found | {"BASE"}


def test_lists_and_names() -> None:
    listed = BlockWeights.parse("0.5," + ",".join(["0"] * 6) + ",2" + ",1" * 9, "sd1")
    assert listed.at("text_encoder", "x") == 0.5 and listed.at("unet", "mid_block.attentions.0.proj_in") == 2
    assert listed.at("unet", "up_blocks.3.attentions.2.proj_in") == 1
    assert listed.at("unet", "time_embedding.linear_1") == 0  # a list leaves out what it does not reach
    named = BlockWeights.parse("IN:0.5, in04-IN05:-1, M00:0, TE:3")
    assert [named.factors.get(block) for block in ("BASE", "IN03", "IN04", "IN05", "IN06", "MID")] == [
        *(3, 0.5, -1, -1, 0.5, 0)
    ]
    assert named.at("unet", "up_blocks.3.attentions.2.proj_in") == 1
    assert set(BlockWeights.parse("UNET:0").factors) == set(BLOCKS) - {"BASE"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,1,1", "3 numbers, where 17 or 26 are needed for this base"),
        (",".join(["1"] * 12), "12 numbers, where 17 or 26"),
        (",".join(["1"] * 16) + ",x", "'x' is no finite number"),
        ("IN:0.5,MDI:1", "there is no block 'MDI'.* Did you mean \"MID\""),
        ("IN12:1", "there is no block 'IN12'"),
        ("MID:nan", "'nan' is no finite number"),
        ("MID:1e999", "is no finite number"),
        ("IN:0.5,MID", "'MID' has no factor; write MID:0.5"),
        ("OUT05-OUT03:1", "runs backwards; write OUT03-OUT05"),
        ("", "1 numbers"),
    ],
)
def test_what_cannot_be_meant(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        BlockWeights.parse(text, "sd1")


def test_content_and_style_are_a_block_each_of_sdxl() -> None:
    content, style = (BlockWeights.parse(name, "sdxl") for name in ("content", " Style"))
    modules = family_modules("sdxl")
    assert modules is not None
    paths = modules["unet"]
    acting = [{path for path in paths if split.at("unet", path)} for split in (content, style)]
    assert all(len(some) > 100 for some in acting) and not acting[0] & acting[1]
    assert {path.split(".transformer")[0] for path in acting[0] if "attn" in path} == {
        "up_blocks.0.attentions.0"
    }
    assert not any(split.at("text_encoder", "x") for split in (content, style))
    assert BlockWeights.parse("style", None) == BlockWeights.parse("style", "sdxl")
    with pytest.raises(ConfigError, match="are of SDXL"):
        BlockWeights.parse("style", "sd1")
