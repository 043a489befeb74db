"""What is told of an adapter's tensors: in every format, and in whatever state they are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lorastyle.adapters import (
    Adapter,
    Inspection,
    LowRank,
    inspect_adapter,
    load_adapter,
    save_adapter,
)
from lorastyle.errors import AdapterFileError
from tests.adapters.examples import UNET, dense, low_rank, mixed_adapter
from tests.adapters.spellings import FILES, MODULES, SHAPES, mixed, xl_adapter

TO_Q = f"{UNET}.attn1.to_q"
FLAT = f"lora_unet_{TO_Q.replace('.', '_')}"


def write(path: Path, tensors: dict[str, Tensor], **metadata: str) -> Path:
    safetensors.torch.save_file({k: t.contiguous() for k, t in tensors.items()}, path, metadata or None)
    return path


def kohya(name: str = FLAT, *, scale: float = 1.0, seed: int = 0) -> dict[str, Tensor]:
    update = low_rank((24, 20), 4, 2.0, seed)
    factors = {"lora_down.weight": update.down, "lora_up.weight": scale * update.up}
    return {f"{name}.{end}": t for end, t in {**factors, "alpha": torch.tensor(2.0)}.items()}


def many(count: int = 12, **scales: float) -> dict[str, Tensor]:
    """The `n`th attention module of a text encoder, each of its own size."""
    tensors: dict[str, Tensor] = {}
    for n in range(count):
        name = f"lora_te_text_model_encoder_layers_{n}_self_attn_q_proj"
        tensors |= kohya(name, scale=scales.get(f"m{n}", 1.0 + n / 20), seed=n)
    return tensors


def assert_of(adapter: Adapter, found: Inspection, most: float = 1e-5) -> None:
    """Norms and shares are those of the adapter's dense updates."""
    sizes = {f"{c} {p}": float(dense(u).norm()) for c, p, u in adapter.updates()}
    assert {m.name for m in found.modules} == set(sizes) and len(found.modules) == len(sizes)
    for module in found.modules:
        assert module.measure is not None
        assert module.measure.norm == pytest.approx(sizes[module.name], rel=most)
    whole = sum(size**2 for size in sizes.values())
    for share in found.components:
        energy = sum(size**2 for name, size in sizes.items() if name.startswith(f"{share.name} "))
        assert share.share == pytest.approx(energy / whole, rel=most)
        assert share.norm == pytest.approx(math.sqrt(energy), rel=most)
        blocks = found.blocks[share.name]
        assert sum(b.share or 0 for b in blocks) == pytest.approx(share.share)
        assert sum(b.modules for b in blocks) == share.modules
    assert sum(share.share or 0 for share in found.components) == pytest.approx(1)


@pytest.mark.parametrize("make", [*FILES.values(), mixed], ids=[*FILES, "mixed"])
def test_every_spelling_tells_the_same(tmp_path: Path, make: Callable[[Adapter], dict[str, Tensor]]) -> None:
    path = write(tmp_path / "a.safetensors", make(xl_adapter()))
    found = inspect_adapter(path, SHAPES)
    assert_of(xl_adapter(), found)
    with pytest.raises(AssertionError):
        assert_of(xl_adapter(seed=1), found)
    assert not (found.not_finite or found.dead or found.broken or found.misfits or found.unknown)
    assert [share.name for share in found.components] == list(SHAPES) and len(found.modules) == len(MODULES)
    names = {block.name: block.alias for block in found.blocks["unet"]}
    assert names["down_blocks.1.*.0"] == "IN04" and names["up_blocks.0.attentions.2"] == "OUT02"


@pytest.mark.parametrize("format", ["kohya", "diffusers", "peft"])
def test_every_form_that_is_written(tmp_path: Path, format: str) -> None:
    name = "a" if format == "peft" else "a.safetensors"
    path = save_adapter(xl_adapter(), tmp_path / name, dtype="float32", format=format)
    assert_of(xl_adapter(), inspect_adapter(path, SHAPES))


def test_without_a_base_the_names_in_the_file(tmp_path: Path) -> None:
    adapter = mixed_adapter().with_metadata({"lorastyle.base": "my-own"})
    found = inspect_adapter(save_adapter(adapter, tmp_path / "a.safetensors", dtype="float32"))
    assert FLAT in {module.path for module in found.modules}
    assert not found.misfits
    blocks = {share.name: share for share in found.blocks["unet"]}
    assert set(blocks) == {"down_blocks.0.*.0"} and blocks["down_blocks.0.*.0"].alias == ""
    assert [share.name for share in found.blocks["text_encoder"]] == ["layers.0-3"]
    norms = sorted(m.measure.norm for m in found.modules if m.measure)
    assert norms == pytest.approx(sorted(float(dense(u).norm()) for _, _, u in adapter.updates()), rel=1e-5)


def test_modules_that_the_family_has_not(tmp_path: Path) -> None:
    found = inspect_adapter(save_adapter(mixed_adapter(), tmp_path / "a.safetensors"))
    assert found.info.family == "sd1"
    assert f"unet {TO_Q}" in found.misfits  # SD 1.x has it, and 320 wide


def test_the_median_and_the_largest_of_a_block(tmp_path: Path) -> None:
    """Three modules of 1, 2 and 8 equal directions."""
    tensors: dict[str, Tensor] = {}
    for name, rank in {"to_q": 1, "to_k": 2, "to_v": 8}.items():
        module = f"{FLAT.removesuffix('to_q')}{name}"
        tensors[f"{module}.lora_down.weight"] = torch.eye(rank, 20)
        tensors[f"{module}.lora_up.weight"] = torch.eye(24, rank)
    (share,) = inspect_adapter(write(tmp_path / "a.safetensors", tensors)).components
    assert share.norm == pytest.approx(math.sqrt(11)) and share.rank == 8
    assert share.effective_rank == pytest.approx(2) and share.effective_rank_most == pytest.approx(8)
    assert (share.energy_rank, share.energy_rank_most) == (2, 8)


def test_tensors_with_nan_are_named_and_the_others_measured(tmp_path: Path) -> None:
    whole, spoilt = kohya(), kohya(f"{FLAT}_2")
    spoilt[f"{FLAT}_2.lora_up.weight"][0, :3] = torch.tensor([math.nan, math.inf, -math.inf])
    path = write(tmp_path / "a.safetensors", whole | spoilt)
    with pytest.raises(AdapterFileError, match="holds NaN or infinity"):
        load_adapter(path, {"unet": [f"{TO_Q}.2", TO_Q]})
    found = inspect_adapter(path)
    (bad,) = found.not_finite
    assert (bad.key, bad.module) == (f"{FLAT}_2.lora_up.weight", f"unet {FLAT}_2")
    assert (bad.nan, bad.infinite, bad.numbers) == (1, 2, 96)
    one, other = found.modules
    assert one.measure is not None and other.measure is None
    assert found.components[0].norm == pytest.approx(
        float(dense(low_rank((24, 20), 4, 2.0)).norm()), rel=1e-5
    )
    assert not inspect_adapter(write(tmp_path / "b.safetensors", whole)).not_finite


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_nan_in_every_type(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = kohya()
    spoilt = tensors[f"{FLAT}.lora_down.weight"].clone()
    spoilt[1, 2] = math.nan
    tensors[f"{FLAT}.lora_down.weight"] = spoilt.to(dtype)
    (bad,) = inspect_adapter(write(tmp_path / "a.safetensors", tensors)).not_finite
    assert (bad.nan, bad.infinite) == (1, 0)


def test_an_alpha_that_is_no_number(tmp_path: Path) -> None:
    tensors = {**kohya(), f"{FLAT}.alpha": torch.tensor(math.nan)}
    found = inspect_adapter(write(tmp_path / "a.safetensors", tensors))
    assert [bad.key for bad in found.not_finite] == [f"{FLAT}.alpha"]
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"lora_up.weight": torch.zeros(24, 4)}, "up is all zeros"),
        ({"lora_down.weight": torch.zeros(4, 20)}, "down is all zeros"),
        ({"alpha": torch.tensor(0.0)}, "alpha is 0"),
        ({"lora_down.weight": torch.eye(4, 20), "lora_up.weight": torch.eye(24, 4)}, ""),
    ],
)
def test_a_module_that_changes_nothing(tmp_path: Path, change: dict[str, Tensor], why: str) -> None:
    changed = {f"{FLAT}.{end}": tensor for end, tensor in change.items()}
    found = inspect_adapter(write(tmp_path / "a.safetensors", {**kohya(), **changed}))
    assert found.dead == ({f"unet {FLAT}": why} if why else {})


def test_other_algorithms_that_change_nothing(tmp_path: Path) -> None:
    def dead(end: str, tensor: Tensor, **more: Tensor) -> bool:
        tensors = {f"{FLAT}.{name}": t for name, t in {end: tensor, **more}.items()}
        return bool(inspect_adapter(write(tmp_path / "a.safetensors", tensors)).dead)

    zero, one = torch.zeros(24, 20), torch.ones(24, 20)
    assert dead("diff", zero) and not dead("diff", one)
    assert not dead("diff", zero, diff_b=one[:, 0]) and dead("diff", zero, diff_b=zero[:, 0])
    assert dead("oft_blocks", torch.zeros(6, 4, 4)) and not dead("oft_blocks", torch.ones(6, 4, 4))
    assert dead("lokr_w1", zero[:4, :4], lokr_w2=one[:6, :5])
    assert not dead("lokr_w1", one[:4, :4], lokr_w2=one[:6, :5])
    on = torch.tensor(0)
    assert dead("weight", zero[:, 0], on_input=on) and not dead("weight", one[:, 0], on_input=on)


def test_a_module_that_sticks_out(tmp_path: Path) -> None:
    found = inspect_adapter(write(tmp_path / "a.safetensors", many(m5=40.0)))
    (name,) = found.loud
    assert name.startswith("text_encoder ") and "layers.5" in name.replace("_", ".")
    assert 20 < found.loud[name] < 40
    assert not inspect_adapter(write(tmp_path / "b.safetensors", many())).loud
    assert not inspect_adapter(write(tmp_path / "c.safetensors", many(7, m5=40.0))).loud  # too few to tell


def test_tensors_that_make_no_update_are_told(tmp_path: Path) -> None:
    half = {f"{FLAT}_2.lora_down.weight": torch.ones(4, 20)}
    glora = {f"{FLAT.replace('to_q', 'to_k')}.a1.weight": torch.ones(4, 20)}
    found = inspect_adapter(write(tmp_path / "a.safetensors", kohya() | half | glora))
    assert "has no up factor" in found.broken[f"unet {FLAT}_2"]
    assert "GLoRA is not read" in found.broken.values() and len(found.broken) == 2
    assert len(found.modules) == 3 and found.components[0].modules == 3


def test_biases_words_and_what_depends_on_the_base(tmp_path: Path) -> None:
    tensors = {
        **kohya(),
        f"{FLAT}.diff_b": torch.full((24,), 2.0),
        f"{FLAT}_2.oft_blocks": torch.ones(6, 4, 4),
        "bundle_emb.sks.string_to_param.*": torch.eye(3, 8) * 5,
        "bundle_emb.bad.string_to_param.*": torch.full((2, 8), math.nan),
        "what.is.this": torch.ones(2),
    }
    found = inspect_adapter(write(tmp_path / "a.safetensors", tensors))
    assert found.biases == {f"unet {FLAT}": pytest.approx(math.sqrt(24) * 2)}
    assert found.unmeasured == {"OFT": 1} and found.unknown == ("what.is.this",)
    (word,) = found.words
    assert (word.word, word.component, word.vectors, word.width) == ("sks", "text_encoder", 3, 8)
    assert word.length == pytest.approx(5)
    assert [(bad.module, bad.nan) for bad in found.not_finite] == [("the word 'bad'", 16)]


def test_json_has_plain_finite_values(tmp_path: Path) -> None:
    path = save_adapter(
        replace(xl_adapter(), words={"sks": {"text_encoder": torch.ones(1, 8)}}), tmp_path / "a.safetensors"
    )
    found = inspect_adapter(path, SHAPES)
    back = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert back["family"] == "sdxl" and len(back["modules"]) == len(MODULES)
    assert back["blocks"]["unet"][0]["name"] == "conv_in"
    module = next(m for m in back["modules"] if m["path"] == "conv_in")
    update = xl_adapter().components["unet"]["conv_in"]
    assert module["norm"] == pytest.approx(float(dense(update).norm()), rel=2e-3) and module["rank"] == 4


def test_progress_counts_modules(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = save_adapter(xl_adapter(), tmp_path / "a.safetensors")
    inspect_adapter(path, SHAPES, on_module=lambda done, count: seen.append((done, count)))
    assert seen == [(n + 1, len(MODULES)) for n in range(len(MODULES))]


def test_files_that_hold_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(AdapterFileError, match="no adapter in a format"):
        inspect_adapter(write(tmp_path / "a.safetensors", {"a": torch.ones(2)}))
    with pytest.raises(AdapterFileError, match="no such file"):
        inspect_adapter(tmp_path / "nothing.safetensors")


def test_an_adapter_of_another_architecture(tmp_path: Path) -> None:
    """Its numbers are numbers like any other's, though nothing here can draw with it."""
    path = write(tmp_path / "a.safetensors", kohya("lora_unet_double_blocks_3_img_attn_proj"))
    found = inspect_adapter(path)
    assert found.info.family == "flux" and not found.misfits
    assert [share.name for share in found.blocks["unet"]] == ["double_blocks.3"]


def test_a_factor_as_large_as_the_file(tmp_path: Path) -> None:
    update = LowRank(torch.ones(3, 3000), torch.ones(4000, 3), 3.0)
    tensors = {f"{FLAT}.lora_down.weight": update.down, f"{FLAT}.lora_up.weight": update.up}
    (module,) = inspect_adapter(write(tmp_path / "a.safetensors", tensors)).modules
    assert module.measure is not None and module.measure.norm == pytest.approx(3 * math.sqrt(12e6))
    assert module.measure.effective_rank == pytest.approx(1)
