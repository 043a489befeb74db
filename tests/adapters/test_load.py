"""Reading files of several kinds into an adapter for a model, and refusing what does not fit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lorastyle.adapters import (
    Adapter,
    AdapterWarning,
    LowRank,
    load_adapter,
    load_adapter_report,
    save_adapter,
)
from lorastyle.errors import AdapterError, AdapterFileError, BaseMismatchError
from tests.adapters.examples import SHAPES, UNET, dense, low_rank, mixed_adapter, relative_error

NAMES = {component: list(shapes) for component, shapes in SHAPES.items()}
TO_Q, CONV = f"{UNET}.attn1.to_q", "down_blocks.0.resnets.0.conv1"


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    safetensors.torch.save_file(
        {k: t.contiguous() for k, t in tensors.items()}, path, dict(metadata) if metadata else None
    )
    return path


def folded(update: LowRank) -> LowRank:
    return LowRank(update.down, update.up * update.scale, update.rank)


def dotted(adapter: Adapter, down: str, up: str, prefix: Callable[[str], str] = str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for component, path, update in adapter.updates():
        tensors[f"{component}.{prefix(path)}.{down}.weight"] = folded(update).down
        tensors[f"{component}.{prefix(path)}.{up}.weight"] = folded(update).up
    return tensors


@pytest.mark.parametrize("modules", [NAMES, SHAPES], ids=["names", "shapes"])
@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("lora_A", "lora_B"),
        ("lora_A.default", "lora_B.default"),
        ("lora.down", "lora.up"),
        ("lora_linear_layer.down", "lora_linear_layer.up"),
    ],
)
def test_dotted_names(tmp_path: Path, modules: Mapping[str, list[str]], down: str, up: str) -> None:
    adapter = mixed_adapter()
    again = load_adapter(write(tmp_path / "a.safetensors", dotted(adapter, down, up)), modules)
    assert again.name == "a"
    for component, path, update in adapter.updates():
        assert relative_error(again.components[component][path].delta(), dense(update)) < 1e-6
    wrong = LowRank(adapter.components["unet"][TO_Q].down, adapter.components["unet"][TO_Q].up, 1.0)
    assert relative_error(again.components["unet"][TO_Q].delta(), dense(wrong)) > 0.1


def test_a_file_that_mixes_dotted_spellings(tmp_path: Path) -> None:
    adapter = mixed_adapter()
    a, b = dotted(adapter, "lora.down", "lora.up"), dotted(adapter, "lora_A", "lora_B")
    tensors = {k: t for k, t in a.items() if "attn" in k} | {k: t for k, t in b.items() if "attn" not in k}
    again = load_adapter(write(tmp_path / "a.safetensors", tensors), SHAPES)
    assert {c: set(m) for c, m in again.components.items()} == {
        c: set(m) for c, m in adapter.components.items()
    }


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("in_model", [True, False])
def test_text_encoder_names_with_and_without_text_model(
    tmp_path: Path, in_file: bool, in_model: bool
) -> None:
    path, update = "encoder.layers.0.mlp.fc1", low_rank((32, 16), 4, 4.0)
    spelled = f"text_encoder.{'text_model.' if in_file else ''}{path}"
    live = f"{'text_model.' if in_model else ''}{path}"
    tensors = {f"{spelled}.lora_A.weight": update.down, f"{spelled}.lora_B.weight": update.up}
    file = write(tmp_path / "a.safetensors", tensors)
    assert list(load_adapter(file, {"text_encoder": [live]}).components["text_encoder"]) == [live]
    saved = save_adapter(Adapter("a", {"text_encoder": {live: update}}), tmp_path / "b.safetensors")
    assert "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha" in safetensors.torch.load_file(saved)


def test_alpha_from_the_metadata_of_newer_dotted_files(tmp_path: Path) -> None:
    update = low_rank((24, 20), 4, 4.0)
    tensors = {
        f"unet.{path}.{factor}.weight": tensor.clone()
        for path in (TO_Q, f"{UNET}.attn1.to_out.0")
        for factor, tensor in (("lora_A", update.down), ("lora_B", update.up))
    }
    settings = {"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {r"attn1\.to_out\.0": 3.0}}

    def alphas(settings: object) -> list[float]:
        metadata = {"lora_adapter_metadata": json.dumps(settings)}
        file = write(tmp_path / "a.safetensors", tensors, metadata)
        return [u.alpha for u in load_adapter(file, SHAPES).components["unet"].values()]

    assert sorted(alphas(settings)) == [3.0, 8.0]
    assert alphas({"text_encoder.lora_alpha": 8}) == [4.0, 4.0]
    stable = sorted(alphas({**settings, "unet.use_rslora": True}))
    assert stable == [6.0, 16.0]  # alpha * sqrt(rank), so that alpha / rank becomes alpha / sqrt(rank)
    with pytest.raises(AdapterFileError, match="only module names are read"):
        alphas({"unet.alpha_pattern": {"(a+)+b": 3.0}})
    with pytest.raises(AdapterFileError, match="alpha 'much'"):
        alphas({"unet.lora_alpha": "much"})


def test_saving_a_dotted_file_again_keeps_its_strength(tmp_path: Path) -> None:
    update = low_rank((24, 20), 4, 8.0)
    tensors = {f"unet.{TO_Q}.lora_A.weight": update.down, f"unet.{TO_Q}.lora_B.weight": update.up}
    metadata = {"lora_adapter_metadata": json.dumps({"unet.r": 4, "unet.lora_alpha": 8})}
    first = load_adapter(write(tmp_path / "a.safetensors", tensors, metadata), SHAPES)
    again = load_adapter(save_adapter(first, tmp_path / "b.safetensors", dtype="float32"), SHAPES)
    assert relative_error(again.components["unet"][TO_Q].delta(), dense(update)) < 1e-6


def kohya(
    path: str, update: LowRank, alpha: Tensor | None = None, prefix: str = "lora_unet_"
) -> dict[str, Tensor]:
    name = prefix + path.replace(".", "_")
    tensors = {f"{name}.lora_down.weight": update.down, f"{name}.lora_up.weight": update.up}
    return tensors if alpha is None else {**tensors, f"{name}.alpha": alpha}


@pytest.mark.parametrize(
    "alpha",
    [torch.tensor(2.0), torch.tensor([2.0]), torch.tensor(2), torch.tensor(2.0, dtype=torch.bfloat16)],
)
def test_alpha_in_every_shape_and_type(tmp_path: Path, alpha: Tensor) -> None:
    file = write(tmp_path / "a.safetensors", kohya(TO_Q, low_rank((24, 20), 4, 4.0), alpha))
    assert load_adapter(file, SHAPES).components["unet"][TO_Q].alpha == 2.0


def test_no_alpha_means_the_rank(tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors", kohya(TO_Q, low_rank((24, 20), 4, 4.0)))
    assert load_adapter(file, SHAPES).components["unet"][TO_Q].alpha == 4.0


def test_a_convolution_in_three_factors(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    down = torch.randn(3, 20, 1, 1, generator=random)
    mid, up = torch.randn(3, 3, 3, 3, generator=random), torch.randn(24, 3, 1, 1, generator=random)
    tensors = kohya(CONV, LowRank(down, up, 3.0))
    tensors["lora_unet_down_blocks_0_resnets_0_conv1.lora_mid.weight"] = mid
    again = load_adapter(write(tmp_path / "a.safetensors", tensors), SHAPES).components["unet"][CONV]
    exact = torch.einsum("mnhw,im,nj->ijhw", mid, up[..., 0, 0], down[..., 0, 0])
    assert relative_error(again.delta(), exact) < 1e-6
    swapped = torch.einsum("nmhw,im,nj->ijhw", mid, up[..., 0, 0], down[..., 0, 0])
    assert relative_error(again.delta(), swapped) > 0.1


@pytest.mark.parametrize("shape", [(24, 24), (24, 24, 1, 1)])
@pytest.mark.parametrize("in_file", [(24, 24), (24, 24, 1, 1)])
def test_linear_and_1x1_convolutions_take_each_others_factors(
    tmp_path: Path, shape: tuple[int, ...], in_file: tuple[int, ...]
) -> None:
    update = low_rank(in_file, 4, 2.0)
    file = write(tmp_path / "a.safetensors", kohya("proj_in", update, torch.tensor(2.0)))
    again = load_adapter(file, {"unet": {"proj_in": shape}}).components["unet"]["proj_in"]
    assert again.shape == shape
    assert relative_error(again.delta().flatten(1), dense(update).flatten(1)) < 1e-6


def test_modules_that_do_not_fit_are_named(tmp_path: Path) -> None:
    tensors = {
        **kohya(TO_Q, low_rank((24, 20), 4, 4.0)),
        **kohya(CONV, low_rank((24, 21, 3, 3), 4, 4.0)),
        **kohya("nowhere.to_q", low_rank((24, 20), 4, 4.0)),
        "lora_unet_mid_block_resnets_0_time_emb_proj.a1.weight": torch.ones(2, 2),
        "something.else": torch.ones(2),
    }
    file = write(tmp_path / "a.safetensors", tensors)
    adapter, report = load_adapter_report(file, SHAPES)
    assert list(adapter.components["unet"]) == [TO_Q] and not report.complete
    assert report.matched == (f"unet {TO_Q}",)
    assert report.unmatched == ("lora_unet_nowhere_to_q",)
    assert report.mismatched == (f"unet {CONV} (file (24, 21, 3, 3), model (24, 20, 3, 3))",)
    assert report.unsupported == ("lora_unet_mid_block_resnets_0_time_emb_proj (GLoRA)",)
    with pytest.warns(
        AdapterWarning, match=r"1 of 4 modules fit this model; left out: lora_unet_nowhere_to_q"
    ):
        load_adapter(file, SHAPES)
    _, by_name = load_adapter_report(file, NAMES)
    assert by_name.mismatched == () and len(by_name.matched) == 2


def test_a_whole_fit_is_silent(tmp_path: Path) -> None:
    path = save_adapter(mixed_adapter(), tmp_path / "a.safetensors")
    _, report = load_adapter_report(path, SHAPES)  # warnings are errors in these tests
    assert report.complete and len(report.matched) == 8


def test_another_text_width_is_another_base(tmp_path: Path) -> None:
    to_k = f"{UNET}.attn2.to_k"
    tensors = {**kohya(TO_Q, low_rank((24, 20), 4, 4.0)), **kohya(to_k, low_rank((24, 1024), 4, 4.0))}
    file = write(tmp_path / "a.safetensors", tensors)
    with pytest.raises(BaseMismatchError, match=r"Stable Diffusion 2.x.* width 1024, this base's of 768"):
        load_adapter(file, SHAPES)
    load_adapter(file, {"unet": {**SHAPES["unet"], to_k: (24, 1024)}})


@pytest.mark.parametrize(
    ("key", "family"),
    [
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", "Stable Diffusion XL"),
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1", "Stable Diffusion XL"),
    ],
)
def test_nothing_fits(tmp_path: Path, key: str, family: str) -> None:
    update = low_rank((24, 2048), 4, 4.0)
    tensors = {f"{key}.lora_down.weight": update.down, f"{key}.lora_up.weight": update.up}
    with pytest.raises(BaseMismatchError, match=f"none of its modules fits.*{key}.*made for {family}"):
        load_adapter(write(tmp_path / "a.safetensors", tensors), NAMES)


@pytest.mark.parametrize(
    ("key", "family"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv", "Flux"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", "Stable Diffusion 3"),
        ("transformer.single_transformer_blocks.0.attn.to_q", "Flux"),
        ("transformer.transformer_blocks.0.attn.to_q", "a diffusion transformer"),
    ],
)
def test_adapters_of_transformers_are_refused(tmp_path: Path, key: str, family: str) -> None:
    update = low_rank((24, 20), 4, 4.0)
    tensors = {f"{key}.lora_A.weight": update.down, f"{key}.lora_B.weight": update.up}
    fitting = kohya(TO_Q, low_rank((24, 20), 4, 4.0))
    with pytest.raises(BaseMismatchError, match=f"made for {family}, and lorastyle draws with"):
        load_adapter(write(tmp_path / "a.safetensors", {**tensors, **fitting}), NAMES)
    load_adapter(write(tmp_path / "b.safetensors", fitting), NAMES)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (["model.diffusion_model.input_blocks.0.0.weight"], "whole checkpoint"),
        (["weight"], "no adapter in a format that lorastyle knows .*'weight'"),
        ([f"lora_unet_{TO_Q.replace('.', '_')}.a1.weight"], "a kind that lorastyle can use.*GLoRA"),
        ([f"lora_unet_{TO_Q.replace('.', '_')}.lokr_w1"], "has no w2_a and no w2_b factor"),
        ([f"lora_unet_{TO_Q.replace('.', '_')}.lora_down.weight"], "has no up factor"),
        ([f"unet.{TO_Q}.lora_A.weight", f"unet.{TO_Q}.lora.down.weight"], "the same tensor of one module"),
    ],
)
def test_files_without_a_usable_adapter(tmp_path: Path, keys: list[str], why: str) -> None:
    file = write(tmp_path / "a.safetensors", {key: torch.ones(4, 20) for key in keys})
    with pytest.raises(AdapterFileError, match=why):
        load_adapter(file, SHAPES)


def test_dora_is_not_applied_as_if_it_were_plain(tmp_path: Path) -> None:
    tensors = kohya(TO_Q, low_rank((24, 20), 4, 4.0))
    tensors[f"lora_unet_{TO_Q.replace('.', '_')}.dora_scale"] = torch.ones(24, 1)
    adapter = load_adapter(write(tmp_path / "a.safetensors", tensors), SHAPES)
    assert not adapter.components and adapter.dense["unet"][TO_Q].algorithm == "DoRA"


def test_nan_and_factors_of_two_ranks_are_refused(tmp_path: Path) -> None:
    update = low_rank((24, 20), 4, 4.0)
    up = update.up.clone()
    up[3, 1] = math.nan
    name = f"lora_unet_{TO_Q.replace('.', '_')}"
    for broken, why in ((up, "NaN or infinity"), (update.up[:, :3], "factors of one update")):
        tensors = {f"{name}.lora_down.weight": update.down, f"{name}.lora_up.weight": broken}
        with pytest.raises(AdapterFileError, match=why):
            load_adapter(write(tmp_path / "a.safetensors", tensors), SHAPES)


def test_names_that_flatten_alike_are_refused_only_when_used(tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors", kohya("a.b", low_rank((24, 20), 4, 4.0)))
    with pytest.raises(AdapterFileError, match=r"could be a\.b and a_b"):
        load_adapter(file, {"unet": ["a.b", "a_b"]})
    assert list(load_adapter(file, {"unet": ["a.b", "c.d", "c_d"]}).components["unet"]) == ["a.b"]


def test_what_an_adapter_says_of_itself() -> None:
    adapter = mixed_adapter()
    assert adapter.ranks == (2, 3, 4, 5, 8)
    assert adapter.parameters == sum(u.down.numel() + u.up.numel() for _, _, u in adapter.updates()) > 0
    assert (adapter.trigger, adapter.family) == ("zkx", "sd1")
    changed = adapter.with_metadata({"lorastyle.trigger": "other"})
    assert (changed.trigger, adapter.trigger) == ("other", "zkx")
    assert Adapter("a", adapter.components).family == "sd1"  # by the width of its text
    with pytest.raises(AdapterError, match='Did you mean "text_encoder"'):
        Adapter("a", {"text_encodr": {}})
    with pytest.raises(AdapterError, match="needs a name"):
        Adapter(" ", {})
