"""Two models, or a model and adapters, tensor by tensor: extraction and fusing."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from lorastyle.adapters import (
    Adapter,
    Difference,
    DoRA,
    Limit,
    PartFile,
    Update,
    load_adapter,
    read_header,
    save_adapter,
)
from lorastyle.bank import AdapterBank
from lorastyle.bases import extract_adapter, fuse_base, load_base, open_stored
from lorastyle.errors import (
    AdapterError,
    BaseError,
    BaseMismatchError,
    ConfigError,
    LorastyleError,
    TargetError,
)
from tests.adapters.examples import dense, low_rank
from tests.bank.adapters import random_adapter
from tests.original import differing, made, write_original

FAMILIES = ("sd1", "sd2", "sdxl")
TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
V = {"modelspec.prediction_type": "v"}


def encoders(pipe: Any) -> dict[str, nn.Module]:
    parts = ("unet", "text_encoder", "text_encoder_2")
    return {part: pipe.components[part] for part in parts if part in pipe.components}


def adapter_for(pipe: Any, *, rank: int = 2, seed: int = 0, name: str = "cat") -> Adapter:
    found = random_adapter(name, encoders(pipe), ("all",), rank=rank, alpha=0.2, seed=seed)
    return replace(found, metadata={"lorastyle.base": open_family(pipe)})


def open_family(pipe: Any) -> str:
    return f"sd-{pipe.unet.config['cross_attention_dim']}"


def changed(pipe: Any, adapter: Adapter, scale: float = 1.0) -> Any:
    """A copy of the pipeline whose weights have the dense updates added."""
    other = copy.deepcopy(pipe)
    for component, path, update in adapter.updates():
        layer: Any = encoders(other)[component].get_submodule(path)
        layer.weight.data = (layer.weight.data.double() + scale * dense(update)).float()
    return other


def folder_of(pipe: Any, path: Path) -> Path:
    pipe.save_pretrained(path)
    return path


def both_kinds(family: str, tmp_path: Path, one: Any, other: Any) -> tuple[Path, Path]:
    """One pipeline as a folder, the other as a checkpoint."""
    metadata = V if family == "sd2" else None
    return folder_of(one, tmp_path / "folder"), write_original(
        other, tmp_path / "other.safetensors", metadata=metadata
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_stored_weights_are_those_of_the_live_model(family: str, tmp_path: Path) -> None:
    pipe = made(family)
    folder, file = both_kinds(family, tmp_path, pipe, pipe)
    live = load_base(str(folder), device="cpu")
    for name in (folder, file):
        stored = open_stored(str(name))
        shapes = live.module_shapes()
        assert {c: set(paths) for c, paths in stored.shapes.items()} == {c: set(p) for c, p in shapes.items()}
        for component, paths in stored.shapes.items():
            for path, shape in paths.items():
                assert shape == tuple(shapes[component][path])
                layer: Any = live.components[component].get_submodule(path)
                assert torch.equal(stored.weight(component, path), layer.weight)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_added_is_extracted(family: str, tmp_path: Path) -> None:
    base = made(family)
    adapter = adapter_for(base)
    old, new = both_kinds(family, tmp_path, base, changed(base, adapter))
    done = extract_adapter(str(new), str(old), tmp_path / "out.safetensors", Limit(rank=2), dtype="float32")
    again = load_adapter(done.path, open_stored(str(old)).shapes)
    wanted = {(c, p): dense(u) for c, p, u in adapter.updates()}
    found = {(c, p): dense(u) for c, p, u in again.updates()}
    assert found.keys() == wanted.keys() and done.extracted.error < 1e-3
    worst = max(float((found[at] - wanted[at]).norm() / wanted[at].norm()) for at in wanted)
    assert worst < 1e-3
    small = extract_adapter(str(new), str(old), tmp_path / "small.safetensors", Limit(rank=1))
    assert 0.2 < small.extracted.error < 0.9
    told = json.loads(read_header(done.path).metadata["lorastyle.extracted_from"])
    assert told["tuned"] == "other" and told["base"] == "folder" and done.left_out == 0


def test_what_is_not_extracted_is_told(tmp_path: Path) -> None:
    base = made("sd1")
    other = changed(base, adapter_for(base))
    other.unet.conv_norm_out.weight.data += 0.1
    other.unet.conv_in.weight.data += 0.1
    old, new = folder_of(base, tmp_path / "old"), folder_of(other, tmp_path / "new")
    done = extract_adapter(str(new), str(old), tmp_path / "x.safetensors", targets=("attn2.to_k",))
    chosen = {path for _, path, _ in load_adapter(done.path, open_stored(str(old)).shapes).updates()}
    assert chosen and all(path.endswith("attn2.to_k") for path in chosen)
    everything = extract_adapter(str(new), str(old), tmp_path / "y.safetensors")
    assert everything.left_out == 2 and done.left_out > 2
    most = done.bytes // 2
    with pytest.raises(AdapterError, match="at rank 1 everywhere it needs"):
        extract_adapter(str(new), str(old), tmp_path / "z.safetensors", most_bytes=most)
    most = everything.bytes // 4
    sized = extract_adapter(str(new), str(old), tmp_path / "z.safetensors", most_bytes=most)
    assert 0.5 * most < sized.bytes <= most
    for limit in (Limit(rank=2), Limit(energy=0.5)):
        with pytest.raises(ConfigError, match="at most one of"):
            extract_adapter(str(new), str(old), tmp_path / "v.safetensors", limit, most_bytes=most)


def test_rounding_alone_is_no_difference(tmp_path: Path) -> None:
    base = made("sd1")
    old = folder_of(base, tmp_path / "old")
    half = write_original(base, tmp_path / "half.safetensors", dtype=torch.float16)
    with pytest.raises(BaseError, match=r"have the same weights in all .* nothing to extract"):
        extract_adapter(str(half), str(old), tmp_path / "x.safetensors")
    other = copy.deepcopy(base)
    other.unet.mid_block.resnets[0].conv1.weight.data *= 1.1
    new = write_original(other, tmp_path / "new.safetensors", dtype=torch.float16)
    done = extract_adapter(str(new), str(old), tmp_path / "x.safetensors")
    assert [m.path for m in done.extracted.modules] == ["mid_block.resnets.0.conv1"] and done.alike > 20


def test_models_that_have_no_difference(tmp_path: Path) -> None:
    one, other = folder_of(made("sd1"), tmp_path / "one"), folder_of(made("sdxl"), tmp_path / "other")
    with pytest.raises(BaseMismatchError, match="only models of one family"):
        extract_adapter(str(one), str(other), tmp_path / "x.safetensors")
    with pytest.raises(TargetError, match="No layer matches to_z"):
        extract_adapter(str(one), str(one), tmp_path / "x.safetensors", targets=("to_z",))
    with pytest.raises(BaseError, match="There is no base"):
        extract_adapter(str(tmp_path / "none"), str(one), tmp_path / "x.safetensors")


def tensors_of(path: Path) -> Mapping[str, Tensor]:
    return load_file(path)


@pytest.mark.parametrize(
    ("family", "dtype"), [("sd1", torch.float16), ("sd2", torch.float32), ("sdxl", torch.float32)]
)
def test_a_checkpoint_is_fused_in_its_own_layout(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    base = made(family)
    adapter = adapter_for(base)
    metadata = {**(V if family == "sd2" else {}), "modelspec.hash_sha256": "0x12", "who": "me"}
    source = write_original(base, tmp_path / "base.safetensors", dtype=dtype, ema=True, metadata=metadata)
    file = save_adapter(adapter, tmp_path / "cat.safetensors", dtype="float32")
    done = fuse_base(str(source), [PartFile(file, -0.5)], tmp_path / "fused.safetensors")
    wanted = write_original(
        changed(base, adapter, -0.5), tmp_path / "wanted.safetensors", dtype=dtype, ema=True
    )
    before, found, exact = (tensors_of(path) for path in (source, done.path, wanted))
    assert list(before) == list(found) and done.modules == sum(1 for _ in adapter.updates())
    tolerance = 1e-6 if dtype == torch.float32 else 2e-3
    for name in (name for name in found if not name.startswith("model_ema")):
        assert found[name].dtype == dtype or name == "alphas_cumprod"
        torch.testing.assert_close(found[name], exact[name], atol=tolerance, rtol=tolerance)
    touched = differing(before, found)
    assert {name.split(".")[0] for name in touched} == (
        {"model", "conditioner"} if family == "sdxl" else {"model", "cond_stage_model"}
    )
    assert (
        touched == {n for n in differing(before, exact) if not n.startswith("model_ema")}
        or dtype != torch.float32
    )
    with safe_open(done.path, "pt") as opened:
        told = opened.metadata()
    assert told["who"] == "me" and "modelspec.hash_sha256" not in told
    assert told["lorastyle.fused_from"] == "cat:-0.5"
    assert (done.rounding > 1e-5) == (dtype == torch.float16)


def test_a_folder_is_fused_as_the_bank_does_it(tmp_path: Path) -> None:
    base = made("sd1")
    source = folder_of(base, tmp_path / "base")
    (source / "unet" / "old.bin").write_bytes(b"a pickle")
    adapters = [adapter_for(base, seed=i, name=f"{i}") for i in range(2)]
    files = [
        PartFile(save_adapter(adapter, tmp_path / f"{i}.safetensors", dtype="float32"), 0.7 + i, te=-0.4 * i)
        for i, adapter in enumerate(adapters)
    ]
    done = fuse_base(str(source), files, tmp_path / "deep" / "fused")
    fused, live = open_stored(str(done.path)), copy.deepcopy(encoders(base))
    places = {(c, p) for c, p, _ in adapters[0].updates()}
    assert len(places) == done.modules > 30
    with AdapterBank(live) as bank:
        for adapter in adapters:
            bank.add(adapter)
        bank.set_scales({"0": {"unet": 0.7, "text_encoder": 0.0}, "1": {"unet": 1.7, "text_encoder": -0.4}})
        with bank.fused():
            for component, path in places:
                layer: Any = live[component].get_submodule(path)
                wanted = layer.base.weight
                torch.testing.assert_close(fused.weight(component, path), wanted, atol=1e-5, rtol=1e-5)
    for component, path in places:
        plain: Any = live[component].get_submodule(path)
        assert not torch.allclose(fused.weight(component, path), plain.weight, atol=1e-3)
    assert not (done.path / "unet" / "old.bin").exists()
    small = {p.relative_to(source) for p in source.rglob("*.json")}
    assert {p.relative_to(done.path) for p in done.path.rglob("*.json")} == small
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["fused"]
    assert load_base(str(done.path), device="cpu").family == "sd-64"


def test_a_checkpoint_becomes_a_folder(tmp_path: Path) -> None:
    base = made("sd1")
    source = write_original(base, tmp_path / "base.safetensors")
    file = save_adapter(adapter_for(base), tmp_path / "cat.safetensors", dtype="float32")
    as_file = fuse_base(str(source), [PartFile(file)], tmp_path / "fused.safetensors")
    as_folder = fuse_base(str(source), [PartFile(file)], tmp_path / "fused")
    assert as_file.modules == as_folder.modules > 30
    one, other, before = (open_stored(str(path)) for path in (as_file.path, as_folder.path, source))
    for component, paths in one.shapes.items():
        for path in paths:
            weight = one.weight(component, path)
            torch.testing.assert_close(other.weight(component, path), weight, atol=1e-6, rtol=1e-6)
    assert not torch.equal(one.weight("unet", TO_Q), before.weight("unet", TO_Q))


def test_what_depends_on_the_weight_and_vectors(tmp_path: Path) -> None:
    base = made("sd1")
    norm = "conv_norm_out"
    size = base.unet.get_submodule(TO_Q).weight.shape[0]
    dora = DoRA(inside=low_rank((size, size), 2, 2.0), magnitude=torch.linspace(1, 2, size), axis=0)
    dense: dict[str, Update] = {
        TO_Q: dora,
        norm: Difference(weight=torch.ones(32)),
        "conv_in": Difference(bias=torch.full((32,), 2.0)),
    }
    adapter = Adapter("odd", {}, {}, {"unet": dense})
    file = save_adapter(adapter, tmp_path / "odd.safetensors", dtype="float32")
    done = fuse_base(str(folder_of(base, tmp_path / "base")), [PartFile(file, 0.5)], tmp_path / "fused")
    fused = open_stored(str(done.path))
    weight = base.unet.get_submodule(TO_Q).weight.detach()
    wanted = weight + 0.5 * dora.delta(weight)
    torch.testing.assert_close(fused.weight("unet", TO_Q), wanted, atol=1e-6, rtol=0)
    assert torch.equal(fused.weight("unet", norm), base.unet.conv_norm_out.weight + 0.5)
    assert torch.equal(fused.tensors["unet"]["conv_in.bias"].read(), base.unet.conv_in.bias + 1.0)
    assert torch.equal(fused.weight("unet", "conv_in"), base.unet.conv_in.weight)


def test_what_cannot_be_fused(tmp_path: Path) -> None:
    base = made("sd1")
    folder = folder_of(base, tmp_path / "base")
    adapter = adapter_for(base)
    file = save_adapter(adapter, tmp_path / "cat.safetensors")

    def refused(name: Path, out: str, part: PartFile, error: type[LorastyleError], told: str) -> None:
        before = sorted(p.name for p in tmp_path.iterdir())
        with pytest.raises(error, match=told):
            fuse_base(str(name), [part], tmp_path / out)
        assert sorted(p.name for p in tmp_path.iterdir()) == before, "something was left behind"

    refused(folder, "x.safetensors", PartFile(file), BaseError, "is a folder, and only what is one file")
    refused(folder, "base", PartFile(file), BaseError, "is there already")
    stranger = replace(adapter, metadata={"lorastyle.base": "sdxl"})
    other = save_adapter(stranger, tmp_path / "other.safetensors")
    refused(folder, "x", PartFile(other), BaseMismatchError, "'other' was made for .* XL, and .* is sd-64")
    half = write_original(base, tmp_path / "half.safetensors", dtype=torch.float16)
    size = base.unet.get_submodule(TO_Q).weight.shape[0]
    loud = Adapter("loud", {"unet": {TO_Q: low_rank((size, size), 2, 1e7)}})
    part = PartFile(save_adapter(loud, tmp_path / "loud.safetensors", dtype="float32"))
    refused(half, "x.safetensors", part, AdapterError, r"would hold numbers that torch\.float16 cannot")
