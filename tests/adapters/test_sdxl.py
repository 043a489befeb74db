"""How large an adapter for SDXL is, and which layers there are, at true size without the memory for it."""

# diffusers annotates more narrowly than it accepts.
# pyright: reportArgumentType=false

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from benchmarks.models import make_clip_big_g, make_clip_l, make_unet
from lorastyle.adapters import Adapter, LowRank, read_info, save_adapter
from lorastyle.adapters.formats.sgm import sgm_names
from lorastyle.bank import adaptable_modules, select_targets

PER_RANK = {"attention": 1_451_520, "attention+ff": 2_659_840, "all": 3_977_408 - 3_563_008 + 2_659_840}


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    with torch.device("meta"):
        return make_unet("sdxl")


def parameters_per_rank(unet: UNet2DConditionModel, paths: tuple[str, ...]) -> int:
    shapes = [tuple(unet.get_submodule(path).weight.shape) for path in paths]  # type: ignore[union-attr]
    return sum(shape[0] + int(torch.Size(shape[1:]).numel()) for shape in shapes)


@pytest.mark.parametrize(("preset", "count"), [("attention", 560), ("attention+ff", 722), ("all", 788)])
def test_unet_presets(unet: UNet2DConditionModel, preset: str, count: int) -> None:
    assert sum(p.numel() for p in unet.parameters()) == 2_567_463_684
    paths = select_targets(unet, [preset], "unet")
    assert len(paths) == count
    assert parameters_per_rank(unet, paths) == PER_RANK[preset]


def test_every_module_has_a_name_of_stabilitys(unet: UNet2DConditionModel) -> None:
    """And the house's own reader of checkpoints, which walks them the other way round, agrees."""
    from lorastyle.bases.single_file.unet import PREFIX, unet_part

    names = {path: sgm_names(path) for path in adaptable_modules(unet)}
    assert len(names) == 794 and all(names.values())
    shapes = {
        f"{PREFIX}{sgm_names(path.rpartition('.')[0])[0]}.{path.rpartition('.')[2]}": tuple(value.shape)
        for path, value in unet.state_dict().items()
    }
    back = {path: source.key for path, source in unet_part(shapes, head_size=64).sources.items()}
    assert all(back[f"{path}.weight"] == f"{PREFIX}{name[0]}.weight" for path, name in names.items())


def test_text_encoder_presets() -> None:
    with torch.device("meta"):
        first, second = make_clip_l(), make_clip_big_g()
    counts = [
        len(select_targets(model, ["attention+ff"], part))
        for part, model in (("text_encoder", first), ("text_encoder_2", second))
    ]
    assert counts == [72, 192]


def test_an_adapter_at_the_default_rank_takes_20_to_50_megabytes(
    unet: UNet2DConditionModel, tmp_path: Path
) -> None:
    from lorastyle.train.plan import LARGE_XL

    recipe = LARGE_XL["style"]
    updates: dict[str, LowRank] = {}
    for path in select_targets(unet, recipe.targets, "unet"):
        shape = tuple(unet.get_submodule(path).weight.shape)  # type: ignore[union-attr]
        updates[path] = LowRank(torch.randn(recipe.rank, shape[1]), torch.randn(shape[0], recipe.rank), 16.0)
    adapter = Adapter("xl", {"unet": updates})
    assert adapter.parameters == recipe.rank * PER_RANK["attention"] and adapter.family == "sdxl"
    path = save_adapter(adapter, tmp_path / "a.safetensors")
    assert 20e6 < path.stat().st_size < 50e6
    assert read_info(path).family == "sdxl"
    assert not 20e6 < 2 * 32 * PER_RANK["attention"] < 50e6
