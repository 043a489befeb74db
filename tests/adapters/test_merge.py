"""Merging: the sum of the updates and nothing else, at whatever rank; pruning as its papers write it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lorastyle.adapters import (
    IA3,
    MERGED_FROM,
    Adapter,
    AdapterWarning,
    BlockWeights,
    Difference,
    DoRA,
    Kronecker,
    LowRank,
    Merged,
    MergeSettings,
    PartFile,
    Weighted,
    load_adapter,
    merge,
    merge_files,
    model_hash,
    read_header,
    read_info,
    save_adapter,
)
from lorastyle.errors import AdapterError, BaseMismatchError, ConfigError

from .examples import SHAPES, UNET, dense, low_rank, mixed_adapter

TO_Q = f"{UNET}.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"


def other_adapter() -> Adapter:
    """Of other ranks and alphas than `mixed_adapter`, without one of its modules and with one more."""
    components: dict[str, dict[str, LowRank]] = {}
    for c, paths in SHAPES.items():
        for i, (path, shape) in enumerate(paths.items()):
            if path != TO_Q:
                components.setdefault(c, {})[path] = low_rank(shape, 2 + i % 3, 1.5 * i + 0.5, 900 + i)
    return Adapter("other", components, {"lorastyle.base": "sd1"})


def parts(a: float = 0.8, b: float = -0.5) -> list[Weighted]:
    return [Weighted(mixed_adapter(), a), Weighted(other_adapter(), b)]


def sums(weighted: list[Weighted]) -> dict[tuple[str, str], Tensor]:
    """The weighted sum of the dense updates, in float64 and term by term."""
    total: dict[tuple[str, str], Tensor] = {}
    for part in weighted:
        for component, path, update in part.adapter.updates():
            delta = part.scale * dense(update)
            at = (component, path)
            total[at] = total[at] + delta if at in total else delta
    return total


def apart(merged: Merged, wanted: dict[tuple[str, str], Tensor]) -> float:
    """The largest relative distance of a module; infinite where the modules are not the same."""
    found = {(c, p): dense(u) for c, p, u in merged.adapter.updates()}
    for component, path, update in merged.adapter.dense_updates():
        assert isinstance(update, Difference) and update.weight is not None
        found[component, path] = update.weight.double()
    if found.keys() != wanted.keys():
        return math.inf
    return max(float((found[at] - wanted[at]).norm() / wanted[at].norm()) for at in wanted)


@pytest.mark.parametrize(
    "settings", [MergeSettings(), MergeSettings("linear-on-delta"), MergeSettings("svd", 64)]
)
def test_the_sum_of_the_updates_exactly(settings: MergeSettings) -> None:
    merged = merge(parts(), settings)
    assert apart(merged, sums(parts())) < 2e-6 and merged.error == 0
    assert apart(merged, sums(parts(0.8, 0.5))) > 0.5  # the sign of a scale counts
    assert apart(merged, sums(parts(0.64, -0.25))) > 0.1  # and so does its size: once, not squared


def test_sums_of_factors_are_another_thing() -> None:
    a, b = low_rank((24, 20), 4, 4.0, 1), low_rank((24, 20), 4, 4.0, 2)
    factors = LowRank(a.down + b.down, a.up + b.up, 4.0)
    both = [Weighted(Adapter(n, {"unet": {TO_Q: u}})) for n, u in (("a", a), ("b", b))]
    wanted = sums(both)
    wrong = Merged(Adapter("wrong", {"unet": {TO_Q: factors}}), "", (), {})
    assert apart(merge(both, MergeSettings("linear-on-delta")), wanted) < 1e-6
    assert apart(wrong, wanted) > 0.5


def test_ranks_of_the_exact_sums() -> None:
    stacked = {m.path: m for m in merge(parts()).modules}
    assert stacked[f"{UNET}.attn2.to_k"].after == 8 + 4  # ranks add up
    twins = [Weighted(replace(mixed_adapter(), name=name), 0.5) for name in "ab"]
    ranks = {path: u.rank for _, path, u in mixed_adapter().updates()}
    for module in merge(twins, MergeSettings("linear-on-delta")).modules:
        assert module.before == 2 * ranks[module.path] and module.after == ranks[module.path]


@pytest.mark.parametrize("rank", [1, 3])
def test_svd_is_the_truncated_dense_svd_of_the_sum(rank: int) -> None:
    merged = merge(parts(), MergeSettings("svd", rank))
    wanted = sums(parts())
    for module in merged.modules:
        total = wanted[module.component, module.path]
        u, s, vh = torch.linalg.svd(total.flatten(1), full_matrices=False)
        best = (u[:, :rank] * s[:rank] @ vh[:rank]).reshape(total.shape)
        found = dense(merged.adapter.components[module.component][module.path])
        assert float((found - best).norm() / best.norm()) < 1e-5
        assert module.error == pytest.approx(float((total - best).norm() / total.norm()), abs=1e-5)
    assert merged.error > 0.3
    lost = sum(float((dense(u) - wanted[c, p]).square().sum()) for c, p, u in merged.adapter.updates())
    whole = sum(float(total.square().sum()) for total in wanted.values())
    assert merged.error == pytest.approx(math.sqrt(lost / whole), rel=1e-4)


def test_what_is_asked_of_the_size_holds() -> None:
    for module in merge(parts(), MergeSettings(energy=0.9)).modules:
        assert 0.3 * module.energy > module.lost and module.lost <= 0.1 * module.energy * (1 + 1e-6)
    whole = merge(parts()).adapter.parameters
    small = merge(parts(), MergeSettings(numbers=whole // 2))
    assert 0.9 * whole / 2 < small.adapter.parameters <= whole // 2
    pruned = merge(parts(), MergeSettings("ties", numbers=whole // 2))
    assert 0.9 * whole / 2 < pruned.adapter.parameters <= whole // 2
    default = merge(parts(), MergeSettings("svd"))
    assert max(default.adapter.ranks) == 8  # the largest of the adapters'


@pytest.mark.parametrize("method", ["concat", "svd", "linear-on-delta"])
def test_one_adapter_at_1_stays_what_it_is(method: str) -> None:
    adapter = mixed_adapter()
    merged = merge([Weighted(adapter)], MergeSettings(method)).adapter
    for component, path, update in adapter.updates():
        assert merged.components[component][path] is update
    half = merge([Weighted(adapter, 0.5)], MergeSettings(method)).adapter
    update, found = adapter.components["unet"][TO_Q], half.components["unet"][TO_Q]
    assert torch.equal(found.down, update.down) and found.scale == update.scale / 2


@pytest.mark.parametrize("method", ["ties", "dare", "magnitude"])
def test_nothing_is_pruned_at_a_density_of_1(method: str) -> None:
    one = [Weighted(mixed_adapter(), -0.7)]
    assert apart(merge(one, MergeSettings(method, density=1.0)), sums(one)) < 1e-5
    assert apart(merge(one, MergeSettings(method, density=0.5)), sums(one)) > 0.1


def trimmed(matrix: Tensor, density: float) -> Tensor:
    """As the paper of TIES says it, by sorting."""
    order = matrix.abs().flatten().argsort(descending=True)[: round(density * matrix.numel())]
    kept = torch.zeros(matrix.numel(), dtype=torch.float64)
    kept[order] = matrix.flatten()[order]
    return kept.reshape(matrix.shape)


def ties_by_number(matrices: list[Tensor], density: float) -> Tensor:
    """One number after another."""
    flat = [trimmed(m, density).flatten().tolist() for m in matrices]
    result: list[float] = []
    for values in zip(*flat, strict=True):
        sign = math.copysign(1.0, sum(values))
        agreeing = [value for value in values if value * sign > 0]
        result.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return torch.tensor(result, dtype=torch.float64).reshape(matrices[0].shape)


def magnitude_by_number(matrices: list[Tensor], density: float) -> Tensor:
    return sum((trimmed(m, density) for m in matrices), torch.zeros_like(matrices[0]))


@pytest.mark.parametrize(
    ("method", "formula"), [("ties", ties_by_number), ("magnitude", magnitude_by_number)]
)
@pytest.mark.parametrize("density", [0.2, 0.6])
def test_pruning_as_its_formula(
    method: str, formula: Callable[[list[Tensor], float], Tensor], density: float
) -> None:
    three = [*parts(), Weighted(mixed_adapter("third", seed=5), 1.3)]
    merged = merge(three, MergeSettings(method, rank=200, density=density))
    wanted: dict[tuple[str, str], Tensor] = {}
    for at in sums(three):
        updates = [(p.scale, p.adapter.components[at[0]].get(at[1])) for p in three]
        wanted[at] = formula([scale * dense(u) for scale, u in updates if u is not None], density)
    assert apart(merged, wanted) < 1e-5 and merged.error < 1e-5
    assert apart(merged, sums(three)) > 0.1
    small = merge(three, MergeSettings(method, rank=2, density=density))
    assert 0.2 < small.error < 1 and small.adapter.ranks == (2,)


def test_dare_drops_by_the_seed_and_keeps_the_mean() -> None:
    def dropped(seed: int, density: float = 0.5) -> dict[str, Tensor]:
        settings = MergeSettings("dare", rank=200, density=density, seed=seed)
        return {p: dense(u) for _, p, u in merge(parts(1.0, 0.0), settings).adapter.updates()}

    with pytest.warns(AdapterWarning, match="'other' is 0"):
        first, again, another = dropped(0), dropped(0), dropped(1)
    whole = dense(mixed_adapter().components["unet"][CONV])
    kept = first[CONV].abs() > 1e-5
    assert torch.equal(first[CONV], again[CONV]) and not torch.allclose(first[CONV], another[CONV])
    assert 0.4 < float(kept.double().mean()) < 0.6
    assert torch.allclose(first[CONV][kept], 2 * whole[kept], atol=1e-5)
    with pytest.warns(AdapterWarning):
        mean = torch.stack([dropped(seed)[CONV] for seed in range(30)]).mean(0)
    assert float((mean - whole).norm() / whole.norm()) < 0.25  # 1 / sqrt(30) is 0.18; of one it is 1
    assert float((first[CONV] - whole).norm() / whole.norm()) > 0.8


def test_peft_makes_the_same_of_two() -> None:
    """peft's `add_weighted_adapter` with "svd", which adds updates and so is right."""
    from peft import LoraConfig, get_peft_model

    layer = torch.nn.Sequential(torch.nn.Linear(20, 24, bias=False))
    settings = {"cat": (4, 8.0, 0.8), "ink": (3, 3.0, 0.5)}
    peft: Any = get_peft_model(layer, LoraConfig(r=4, lora_alpha=8, target_modules=["0"]), "cat")  # type: ignore[arg-type]
    peft.add_adapter("ink", LoraConfig(r=3, lora_alpha=3, target_modules=["0"]))
    made: list[Weighted] = []
    for seed, (name, (rank, alpha, scale)) in enumerate(settings.items()):
        update = low_rank((24, 20), rank, alpha, seed)
        peft.base_model.model[0].lora_A[name].weight.data = update.down.clone()
        peft.base_model.model[0].lora_B[name].weight.data = update.up.clone()
        made.append(Weighted(Adapter(name, {"unet": {TO_Q: update}}), scale))
    peft.base_model.add_weighted_adapter(
        ["cat", "ink"], [0.8, 0.5], "both", combination_type="svd", svd_rank=5
    )
    theirs = peft.base_model.model[0].get_delta_weight("both").double()
    merged = merge(made, MergeSettings("svd", 5))
    assert apart(merged, {("unet", TO_Q): theirs}) < 1e-5
    assert apart(merge(made, MergeSettings("svd", 4)), {("unet", TO_Q): theirs}) > 1e-2


def test_blocks_are_weighted_each() -> None:
    blocks = BlockWeights.parse("BASE:0.5,IN01:-2")
    merged = merge([Weighted(mixed_adapter(), 2.0, blocks)])
    for component, path, update in mixed_adapter().updates():
        factor = 1.0 if component == "text_encoder" else -4.0
        assert torch.allclose(
            dense(merged.adapter.components[component][path]), factor * dense(update), atol=1e-7
        )
    gone = merge([Weighted(mixed_adapter(), 1.0, BlockWeights.parse("BASE:0"))])
    assert list(gone.adapter.components) == ["unet"]


def kronecker() -> Kronecker:
    random = torch.Generator().manual_seed(3)
    w1, w2 = torch.randn(4, 4, generator=random), torch.randn(6, 5, generator=random)
    return Kronecker(parts={"w1": w1 / 4, "w2": w2 / 4}, alpha=1.0)


def test_what_is_not_low_rank_joins_in() -> None:
    norm = Difference(weight=torch.arange(24.0))
    strange = Adapter("strange", {}, {}, {"unet": {TO_Q: kronecker(), "conv_norm_out": norm}})
    both = [Weighted(mixed_adapter(), 0.8), Weighted(strange, -0.5)]
    wanted = sums(both[:1])
    wanted["unet", TO_Q] = wanted["unet", TO_Q] - 0.5 * kronecker().delta(torch.zeros(24, 20)).double()
    merged = merge(both, MergeSettings("svd", 24))
    vector = merged.adapter.dense["unet"].pop("conv_norm_out")  # type: ignore[attr-defined]
    assert isinstance(vector, Difference) and vector.weight is not None
    assert torch.equal(vector.weight, -0.5 * torch.arange(24.0))
    assert apart(merged, wanted) < 1e-5
    exact = merge(both, MergeSettings("linear-on-delta")).adapter
    kept = exact.dense["unet"][TO_Q]
    assert isinstance(kept, Difference) and kept.weight is not None
    assert torch.allclose(kept.weight.double(), wanted["unet", TO_Q], atol=1e-6)
    with pytest.raises(AdapterError, match=r"an update of LoKr, which has no factors .* such as svd"):
        merge(both)
    alone = merge([Weighted(mixed_adapter("a")), Weighted(strange)], MergeSettings("svd", 4))
    assert alone.whole == {"norm": 1}
    assert merge([Weighted(strange)]).adapter.dense["unet"][TO_Q] is strange.dense["unet"][TO_Q]
    with pytest.raises(ConfigError, match="None of these adapters has a rank"):
        merge([Weighted(strange)], MergeSettings("ties"))


def test_what_depends_on_the_weight_needs_it() -> None:
    inside = low_rank((24, 20), 4, 4.0)
    turned = DoRA(inside=inside, magnitude=torch.linspace(1, 2, 24), axis=0)
    longer = IA3(weight=torch.linspace(-1, 1, 20), on_input=True)
    weight = torch.randn(24, 20, generator=torch.Generator().manual_seed(0))
    both = [Weighted(Adapter(n, {}, {}, {"unet": {TO_Q: u}}), 0.5) for n, u in (("a", turned), ("b", longer))]
    merged = merge(both, MergeSettings(rank=20), modules=SHAPES, weights=lambda _, path: weight)
    wanted = 0.5 * (turned.delta(weight) + longer.delta(weight))
    assert apart(merged, {("unet", TO_Q): wanted.double()}) < 1e-5
    with pytest.raises(AdapterError, match=r"of 'a' is DoRA, whose difference depends on .* --base"):
        merge(both, MergeSettings(rank=20), modules=SHAPES)


def test_words_come_along() -> None:
    cat, dog = torch.ones(1, 16), torch.zeros(1, 16)
    a = replace(mixed_adapter("a"), words={"<cat>": {"text_encoder": cat}})
    b = replace(other_adapter(), words={"<cat>": {"text_encoder": cat}, "<dog>": {"text_encoder": dog}})
    assert list(merge([Weighted(a), Weighted(b)]).adapter.words) == ["<cat>", "<dog>"]
    c = replace(b, words={"<cat>": {"text_encoder": dog}})
    with pytest.warns(AdapterWarning, match="teaches the word '<cat>' otherwise"):
        words = merge([Weighted(a), Weighted(c)]).adapter.words
    assert torch.equal(words["<cat>"]["text_encoder"], cat)


@pytest.mark.parametrize("format", ["kohya", "diffusers"])
def test_files_of_any_form(tmp_path: Path, format: str) -> None:
    a = save_adapter(mixed_adapter(), tmp_path / "a.safetensors", dtype="float32")
    b = save_adapter(other_adapter(), tmp_path / "b.safetensors", dtype="float32", format=format)
    sources = [PartFile(a, 0.8), PartFile(b, -0.5, "IN:0.5")]
    done = merge_files(sources, tmp_path / "ab.safetensors", modules=SHAPES)
    again = load_adapter(done.path, SHAPES)
    weighted = [Weighted(mixed_adapter(), 0.8), Weighted(other_adapter(), -0.5, BlockWeights.parse("IN:0.5"))]
    assert apart(merge([Weighted(again)]), sums([Weighted(merge(weighted).adapter)])) < 1e-5
    assert (done.dtype, done.bytes) == ("float32", done.path.stat().st_size)
    metadata = read_header(done.path).metadata
    assert json.loads(metadata[MERGED_FROM]) == {
        "method": "concat",
        "relative_error": 0.0,
        "adapters": [
            {"name": "a", "scale": 0.8, "hash": model_hash(a)},
            {"name": "b", "scale": -0.5, "hash": model_hash(b), "blocks": "IN:0.5"},
        ],
    }
    assert metadata["lorastyle.trigger"] == "zkx" and metadata["lorastyle.base"] == "sd1"


def test_text_encoders_and_unet_apart(tmp_path: Path) -> None:
    a = save_adapter(mixed_adapter(), tmp_path / "a.safetensors", dtype="float32")
    b = save_adapter(other_adapter(), tmp_path / "b.safetensors", dtype="float32")
    sources = [PartFile(a, 0.8, te=0.0), PartFile(b, -0.5, "BASE:0.5", te=2.0, unet=0.3)]
    done = merge_files(sources, tmp_path / "ab.safetensors", modules=SHAPES)
    by_blocks = [
        Weighted(mixed_adapter(), 1.0, BlockWeights.parse("BASE:0,UNET:0.8")),
        Weighted(other_adapter(), 1.0, BlockWeights.parse("BASE:1,UNET:0.3")),
    ]
    assert apart(done.merged, sums([Weighted(merge(by_blocks).adapter)])) < 1e-5
    assert apart(done.merged, sums([Weighted(mixed_adapter(), 0.8), Weighted(other_adapter(), 0.3)])) > 0.1
    first, second = json.loads(read_header(done.path).metadata[MERGED_FROM])["adapters"]
    assert (first["scale"], first["te"], second["te"], second["unet"]) == (0.8, 0.0, 2.0, 0.3)
    assert "unet" not in first
    told = read_info(done.path).describe()
    assert "a:0.8:te=0 (" in told and " + b:-0.5:te=2:unet=0.3 on BASE:0.5 (" in told


def test_none_of_it_is_left_only_where_no_part_is() -> None:
    off = Weighted(mixed_adapter(), 0.0, unet=0.5)
    half = merge([Weighted(mixed_adapter(), 1.0, BlockWeights.parse("BASE:0,UNET:0.5"))])
    assert apart(merge([off]), sums([Weighted(half.adapter)])) < 1e-5
    with pytest.raises(AdapterError, match="Every scale is 0"):
        merge([Weighted(mixed_adapter(), 1.0, te=0.0, unet=0.0)])
    with pytest.raises(AdapterError, match="The te of 'other' is nan"):
        merge([off, Weighted(other_adapter(), 1.0, te=float("nan"))])


def test_a_file_of_a_size(tmp_path: Path) -> None:
    wide = {f"{UNET}.attn2.to_{x}": (320, 768) for x in "kv"}
    files: list[PartFile] = []
    for n, name in enumerate("ab"):
        updates = {
            path: low_rank(shape, 16, 16.0, 10 * n + i) for i, (path, shape) in enumerate(wide.items())
        }
        adapter = Adapter(name, {"unet": updates}, {"lorastyle.base": "sd1"})
        files.append(PartFile(save_adapter(adapter, tmp_path / f"{name}.safetensors")))
    most = files[0].path.stat().st_size
    modules = {"unet": wide}
    done = merge_files(files, tmp_path / "ab.safetensors", most_bytes=most, modules=modules)
    assert 0.8 * most < done.bytes <= most and done.merged.method == "svd"
    with pytest.raises(AdapterError, match=r"no file of 0\.01 MB: at rank 1 everywhere it needs"):
        merge_files(files, tmp_path / "tiny.safetensors", most_bytes=6000, modules=modules)
    with pytest.raises(ConfigError, match="concat keeps every rank"):
        merge_files(files, tmp_path / "c.safetensors", MergeSettings("concat"), most_bytes=most)
    assert not (tmp_path / "tiny.safetensors").exists()


def test_what_does_not_go_together(tmp_path: Path) -> None:
    a = save_adapter(mixed_adapter(), tmp_path / "a.safetensors")
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(a.read_bytes())
    with pytest.raises(AdapterError, match=r"are the same adapter\. Name it once, with the sum"):
        merge_files([PartFile(a), PartFile(copy, 0.5)], tmp_path / "x.safetensors")
    wide = {f"{UNET}.attn2.to_k": low_rank((24, 2048), 2, 2.0)}
    stranger = Adapter("other", {"unet": wide}, {"lorastyle.base": "sdxl"})
    b = save_adapter(stranger, tmp_path / "b.safetensors")
    with pytest.raises(BaseMismatchError, match=r"a\.safetensors for .* 1\.x, b\.safetensors for .* XL"):
        merge_files([PartFile(a), PartFile(b)], tmp_path / "x.safetensors")
    with pytest.raises(BaseMismatchError, match=r"'mixed' for .* 1\.x, 'other' for .* XL"):
        merge([Weighted(mixed_adapter()), Weighted(stranger)])
    larger = Adapter("larger", {"unet": {TO_Q: low_rank((32, 20), 2, 2.0)}})
    with pytest.raises(BaseMismatchError, match=r"is \(24, 20\) for mixed and \(32, 20\) for larger"):
        merge([Weighted(mixed_adapter()), Weighted(larger)])
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("scales", "told"),
    [
        ((math.nan, 1.0), "The scale of 'mixed' is nan; a finite number is needed"),
        ((1.0, math.inf), "The scale of 'other' is inf"),
        ((0.0, 0.0), "Every scale is 0"),
    ],
)
def test_scales_that_cannot_be(scales: tuple[float, float], told: str) -> None:
    with pytest.raises(AdapterError, match=told):
        merge(parts(*scales))


def test_an_unusual_scale_is_told() -> None:
    with pytest.warns(AdapterWarning, match="'mixed' is 11; beyond 10"):
        merge(parts(11.0, 1.0))
    merge(parts(10.0, -10.0))  # warnings are errors here


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"method": "tie"}, "There is no method 'tie'; allowed are .*Did you mean \"ties\""),
        ({"method": "svd", "rank": 0}, "rank is 0; it must be at least 1"),
        ({"rank": 4, "energy": 0.9}, "at most one of rank, energy and size"),
        ({"energy": 1.5}, "energy is 1.5; it must be above 0"),
        ({"method": "concat", "rank": 4}, "concat keeps every rank; take the method svd"),
        ({"method": "svd", "density": 0.5}, "A density is for ties, dare, magnitude"),
        ({"method": "ties", "density": 0.0}, "density is 0.0; it must be above 0"),
        ({"method": "ties", "density": math.nan}, "density is nan"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        MergeSettings(**settings)
