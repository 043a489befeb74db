"""Converting between forms, and the comparison that proves it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from lorastyle.adapters import (
    Adapter,
    Difference,
    DoRA,
    LowRank,
    compare_adapters,
    convert_adapter,
    known_modules,
    load_adapter,
    model_hash,
    read_header,
    save_adapter,
)
from lorastyle.errors import AdapterError, AdapterFileError
from tests.adapters.examples import low_rank
from tests.adapters.spellings import FILES, mixed, xl_adapter

TO_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
TO_K = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"


def true_size() -> Adapter:
    """For the real SDXL, whose modules are known without a base."""
    unet = {TO_Q: low_rank((640, 640), 4, 2.0), TO_K: low_rank((640, 2048), 2, 2.0, 1)}
    unet["conv_in"] = low_rank((320, 4, 3, 3), 3, 1.0, 2)
    text = {"text_model.encoder.layers.31.mlp.fc1": low_rank((5120, 1280), 2, 1.0, 3)}
    return Adapter("xl", {"unet": unet, "text_encoder_2": text}, {"lorastyle.base": "sdxl"})


@pytest.mark.parametrize("there", ["kohya", "diffusers", "peft"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_there_and_back_without_a_base(tmp_path: Path, there: str, dtype: str) -> None:
    first = save_adapter(true_size(), tmp_path / "a.safetensors", dtype=dtype)
    other = tmp_path / ("b" if there == "peft" else "b.safetensors")
    done = convert_adapter(first, other, format=there)
    assert (done.format, done.dtype, done.comparison.modules) == (there, dtype, 4)
    assert done.comparison.alike(1e-6 if dtype == "float32" else 1e-3)
    assert done.comparison.reach > 0.1
    back = convert_adapter(other, tmp_path / "c.safetensors")
    assert back.comparison.alike(1e-6 if dtype == "float32" else 1e-3)
    if there == "kohya":
        assert back.comparison.largest == 0 and model_hash(first) == model_hash(back.path)
    names = {n for n in read_header(back.path).tensors if n.startswith("lora_unet_")}
    assert names and all("blocks" in name and "down" not in name.split("_")[2] for name in names)


def test_dotted_names_of_an_unknown_base_speak_for_themselves(tmp_path: Path) -> None:
    adapter = Adapter("odd", {"unet": {"a.b_c.0": low_rank((8, 6), 2, 2.0)}}, {})
    dotted = save_adapter(adapter, tmp_path / "a.safetensors", format="diffusers", dtype="float32")
    assert known_modules(dotted) == {"unet": {"a.b_c.0": None}}
    done = convert_adapter(dotted, tmp_path / "b", format="peft")
    assert done.comparison.modules == 1 and done.comparison.alike(1e-6)
    flat = save_adapter(adapter, tmp_path / "c.safetensors")
    with pytest.raises(AdapterError, match=r"its names say what they mean only beside the base's"):
        convert_adapter(flat, tmp_path / "d.safetensors")
    modules = {"unet": {"a.b_c.0": (8, 6)}}
    assert convert_adapter(flat, tmp_path / "d.safetensors", modules=modules).comparison.modules == 1


def test_nothing_is_lost_in_silence(tmp_path: Path) -> None:
    adapter = true_size()
    more = {**adapter.components["unet"], "nowhere.to_q": low_rank((6, 6), 2, 2.0)}
    path = save_adapter(replace(adapter, components={"unet": more}), tmp_path / "a.safetensors")
    target = tmp_path / "b.safetensors"
    with pytest.raises(AdapterError, match=r"3 of 4 modules fit.*Nothing was written"):
        convert_adapter(path, target)
    assert not target.exists()
    done = convert_adapter(path, target, partial=True)
    assert done.comparison.modules == 3 and len(done.report.unmatched) == 1


def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = save_adapter(true_size(), tmp_path / "a.safetensors")
    before = path.read_bytes()
    with pytest.raises(AdapterFileError, match="is there already"):
        convert_adapter(path, path, format="diffusers")
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", [*FILES, "mixed"])
def test_every_spelling_converts(tmp_path: Path, name: str) -> None:
    """With sizes of their own, so that the modules are given."""
    from tests.adapters.spellings import SHAPES

    tensors = {**FILES, "mixed": mixed}[name](xl_adapter())
    safetensors.torch.save_file({k: t.contiguous() for k, t in tensors.items()}, tmp_path / "a.safetensors")
    done = convert_adapter(tmp_path / "a.safetensors", tmp_path / "b.safetensors", modules=SHAPES)
    expected = load_adapter(save_adapter(xl_adapter(), tmp_path / "c.safetensors", dtype="float32"), SHAPES)
    assert done.comparison.alike(1e-6)
    assert compare_adapters(load_adapter(done.path, SHAPES), expected, SHAPES).alike(1e-6)
    assert not compare_adapters(expected, xl_adapter(seed=1), SHAPES).alike(0.5)


def test_what_a_comparison_tells() -> None:
    one = Adapter("a", {"unet": {"x": low_rank((8, 6), 2, 2.0), "y": low_rank((8, 6), 2, 2.0)}})
    x = one.components["unet"]["x"]
    up = x.up.clone()
    up[3, 1] += 0.5
    other = Adapter("b", {"unet": {"x": LowRank(x.down, up, 2.0), "z": x}})
    found = compare_adapters(one, other)
    expected = float((0.5 * x.down[1]).abs().max())
    assert found.modules == 1 and found.largest == pytest.approx(expected) and found.where == "unet x"
    assert found.only_first == ("unet y",) and found.only_second == ("unet z",)
    assert not found.alike(9.0)
    assert compare_adapters(one, one).largest == 0 and compare_adapters(one, one).alike(0)


def test_what_depends_on_the_weight_is_compared_too() -> None:
    inside = low_rank((8, 6), 2, 2.0)
    length = torch.ones(8)
    one = Adapter("a", {}, {}, {"unet": {"x": DoRA(inside=inside, magnitude=length, axis=0)}})
    two = Adapter("a", {}, {}, {"unet": {"x": DoRA(inside=inside, magnitude=2 * length, axis=0)}})
    assert compare_adapters(one, one).largest == 0
    assert compare_adapters(one, two).relative > 0.5
    plain = Adapter("a", {"unet": {"x": inside}})
    assert compare_adapters(one, plain).relative > 0.1
    bias = Adapter("a", {"unet": {"x": inside}}, {}, {"unet": {"x": Difference(bias=torch.ones(8))}})
    assert compare_adapters(bias, plain).largest == 1
    alone = Adapter("a", {}, {}, {"unet": {"x": Difference(bias=torch.ones(8))}})
    with pytest.raises(AdapterError, match=r"The size of unet x is not known. Name the base"):
        compare_adapters(alone, alone)
    assert compare_adapters(alone, alone, {"unet": {"x": (8, 6)}}).largest == 0
