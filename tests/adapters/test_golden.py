"""One adapter in every format: always the same dense updates, and back again without a loss."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
from torch import Tensor

from lorastyle.adapters import (
    Adapter,
    AdapterWarning,
    load_adapter,
    load_adapter_report,
    model_hash,
    read_header,
    read_info,
    save_adapter,
)
from lorastyle.errors import AdapterError, AdapterFileError, BaseMismatchError
from tests.adapters.examples import dense, relative_error
from tests.adapters.spellings import FILES, MODULES, SHAPES, flat, mixed, spelled, xl_adapter

FORMATS = ("kohya", "diffusers", "peft")
TO_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file({k: t.contiguous() for k, t in tensors.items()}, path, metadata)
    return path


def assert_same(a: Adapter, b: Adapter, most: float = 1e-6) -> None:
    assert {c: set(m) for c, m in a.components.items()} == {c: set(m) for c, m in b.components.items()}
    for component, path, update in a.updates():
        assert relative_error(b.components[component][path].delta(), dense(update)) < most, path


def assert_other(a: Adapter, b: Adapter) -> None:
    errors = [relative_error(b.components[c][p].delta(), dense(u)) for c, p, u in a.updates()]
    assert min(errors) > 0.5


@pytest.mark.parametrize("make", [*FILES.values(), mixed], ids=[*FILES, "mixed"])
def test_every_spelling_is_the_same_adapter(
    tmp_path: Path, make: Callable[[Adapter], dict[str, Tensor]]
) -> None:
    adapter = xl_adapter()
    again, report = load_adapter_report(write(tmp_path / "a.safetensors", make(adapter)), SHAPES)
    assert report.complete and len(report.matched) == len(MODULES)
    assert_same(adapter, again)
    assert_other(xl_adapter(seed=1), again)
    assert read_info(tmp_path / "a.safetensors").family == "sdxl"


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_is_the_same_adapter(tmp_path: Path, format: str) -> None:
    adapter = xl_adapter()
    name = "a" if format == "peft" else "a.safetensors"
    again = load_adapter(save_adapter(adapter, tmp_path / name, dtype="float32", format=format), SHAPES)
    assert_same(adapter, again)
    assert again.trigger == "zkx" and again.family == "sdxl"


@pytest.mark.parametrize("there", FORMATS)
@pytest.mark.parametrize("back", FORMATS)
def test_there_and_back(tmp_path: Path, there: str, back: str) -> None:
    adapter = load_adapter(save_adapter(xl_adapter(), tmp_path / "0.safetensors", dtype="float32"), SHAPES)
    for i, format in enumerate((there, back, "kohya")):
        name = f"{i}" if format == "peft" else f"{i}.safetensors"
        path = save_adapter(adapter, tmp_path / f"step {i}" / name, dtype="float32", format=format)
        adapter = load_adapter(path, SHAPES)
    assert_same(xl_adapter(), adapter)


def test_back_to_kohya_is_the_identity_to_the_bit(tmp_path: Path) -> None:
    first = save_adapter(xl_adapter(), tmp_path / "a.safetensors")
    again = save_adapter(load_adapter(first, SHAPES), tmp_path / "b.safetensors")
    assert model_hash(first) == model_hash(again)
    assert model_hash(save_adapter(xl_adapter(seed=1), tmp_path / "c.safetensors")) != model_hash(first)


def test_sdxl_gets_the_names_that_its_tools_know(tmp_path: Path) -> None:
    adapter = xl_adapter()
    keys = set(read_header(save_adapter(adapter, tmp_path / "a.safetensors")).tensors)
    expected = spelled(adapter, flat, "lora_down.weight", "lora_up.weight", alpha="alpha")
    assert keys == set(expected)
    odd = {**adapter.components["unet"], "down_blocks.0.odd": adapter.components["unet"]["conv_in"]}
    other = Adapter("a", {"unet": odd}, adapter.metadata)  # partly Stability's names is what nobody reads
    keys = set(read_header(save_adapter(other, tmp_path / "b.safetensors")).tensors)
    assert "lora_unet_conv_in.alpha" in keys and not any("input_blocks" in key for key in keys)
    sd1 = Adapter("a", {"unet": {TO_Q: adapter.components["unet"][TO_Q]}}, {"lorastyle.base": "sd1"})
    keys = set(read_header(save_adapter(sd1, tmp_path / "c.safetensors")).tensors)
    assert f"lora_unet_{TO_Q.replace('.', '_')}.alpha" in keys


@pytest.mark.parametrize("place", ["1", "2"])
def test_an_upsampler_in_both_of_its_places(tmp_path: Path, place: str) -> None:
    update = xl_adapter().components["unet"]["up_blocks.0.upsamplers.0.conv"]
    name = f"lora_unet_output_blocks_2_{place}_conv"
    tensors = {f"{name}.lora_down.weight": update.down, f"{name}.lora_up.weight": update.up}
    adapter = load_adapter(write(tmp_path / "a.safetensors", tensors), SHAPES)
    assert list(adapter.components["unet"]) == ["up_blocks.0.upsamplers.0.conv"]


# ---- peft's folders ---------------------------------------------------------------------------------------


def peft_folder(path: Path, component: str, config: dict[str, object]) -> Path:
    updates = xl_adapter().components[component]
    tensors = {
        f"base_model.model.{'' if component == 'unet' else 'text_model.'}{p}.lora_{side}.weight": factor
        for p, u in updates.items()
        if p != "text_projection"
        for side, factor in (("A", u.down), ("B", u.up))
    }
    write(path / "adapter_model.safetensors", tensors)
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, **config}))
    return path


def test_a_peft_folder_with_patterns(tmp_path: Path) -> None:
    folder = peft_folder(
        tmp_path / "a", "unet", {"lora_alpha": 8, "alpha_pattern": {"conv_in": 3, r"attn1\.to_q": 5}}
    )
    for path in (folder, folder / "adapter_model.safetensors"):
        updates = load_adapter(path, SHAPES).components["unet"]
        assert updates["conv_in"].alpha == 3 and updates[TO_Q].alpha == 5
        assert updates["conv_out"].alpha == 8
    stable = peft_folder(tmp_path / "b", "unet", {"lora_alpha": 8, "use_rslora": True})
    updates = load_adapter(stable, SHAPES).components["unet"]
    assert updates["conv_out"].scale == pytest.approx(8 / updates["conv_out"].rank ** 0.5)


def test_a_peft_folder_finds_its_text_encoder(tmp_path: Path) -> None:
    """Both have the same names: the folder's name says which, or else the sizes do."""
    for component in ("text_encoder", "text_encoder_2"):
        adapter = load_adapter(peft_folder(tmp_path / f"my {component}", component, {}), SHAPES)
        assert list(adapter.components) == [component]
    bare = {c: list(paths) for c, paths in SHAPES.items()}
    bare["text_encoder_2"] = [*bare["text_encoder_2"], *bare["text_encoder"]]
    named = peft_folder(tmp_path / "text_encoder", "text_encoder", {})
    assert list(load_adapter(named, bare).components) == ["text_encoder"]
    with pytest.raises(AdapterFileError, match=r"could be text_encoder\..* and text_encoder_2\."):
        load_adapter(tmp_path / "my text_encoder", bare)


def test_a_peft_folder_of_several_components(tmp_path: Path) -> None:
    path = save_adapter(xl_adapter(), tmp_path / "a", format="peft")
    assert sorted(p.relative_to(path).as_posix() for p in path.rglob("*.*")) == sorted(
        f"{c}/{name}" for c in SHAPES for name in ("adapter_config.json", "adapter_model.safetensors")
    )
    config = json.loads((path / "unet" / "adapter_config.json").read_text())
    assert config["rank_pattern"] and config["alpha_pattern"] and TO_Q in config["target_modules"]
    info = read_info(path)
    assert info.formats == ("peft",) and set(info.components) == set(SHAPES)
    assert len(model_hash(path)) == 64
    with pytest.raises(AdapterFileError, match="is there already"):
        save_adapter(xl_adapter(), path, format="peft")


def test_peft_folders_that_cannot_be_read(tmp_path: Path) -> None:
    other = peft_folder(tmp_path / "a", "unet", {"peft_type": "IA3"})
    with pytest.raises(AdapterFileError, match="is that of peft's 'IA3'; only LORA, LOHA and LOKR are"):
        load_adapter(other, SHAPES)
    pickled = peft_folder(tmp_path / "b", "unet", {})
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(AdapterFileError, match="are a pickle"):
        load_adapter(pickled, SHAPES)
    broken = peft_folder(tmp_path / "c", "unet", {})
    (broken / "adapter_config.json").write_text("[" * 100_000)
    with pytest.raises(AdapterFileError, match=r"adapter_config.json is not valid JSON"):
        load_adapter(broken, SHAPES)


# ---- what is told -----------------------------------------------------------------------------------------


def test_counts_and_the_likely_reason(tmp_path: Path) -> None:
    path = save_adapter(xl_adapter(), tmp_path / "a.safetensors")
    sd1 = {"unet": {k: s for k, s in SHAPES["unet"].items() if k in (TO_Q, "conv_in")}}
    sd1["unet"]["conv_out"] = (5, 12, 3, 3)
    _, report = load_adapter_report(path, sd1)
    assert len(report.matched) == 2 and len(report.unmatched) == 15 and len(report.mismatched) == 1
    with pytest.warns(
        AdapterWarning,
        match=r"2 of 18 modules fit this model; left out: .* and 13 more; perhaps because it was made for "
        "Stable Diffusion XL",
    ):
        load_adapter(path, sd1)
    with pytest.raises(BaseMismatchError, match="none of its modules fits this model"):
        load_adapter(path, {"unet": ["nothing.like.it"]})


def test_an_unknown_format_to_write(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match='Did you mean "kohya"'):
        save_adapter(xl_adapter(), tmp_path / "a.safetensors", format="kohia")
    with pytest.raises(AdapterFileError, match=r"must end in \.safetensors"):
        save_adapter(xl_adapter(), tmp_path / "a", format="diffusers")
    assert not list(tmp_path.iterdir())
