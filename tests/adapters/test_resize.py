"""Smaller adapters: as near as can be, no larger than asked for, and honest about what it costs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorastyle.adapters import (
    Adapter,
    Difference,
    LowRank,
    load_adapter,
    read_header,
    read_info,
    resize_adapter,
    save_adapter,
    shrink,
)
from lorastyle.adapters.ranks import by_numbers
from lorastyle.errors import AdapterError, AdapterFileError, ConfigError

from .examples import SHAPES, UNET, dense, low_rank, mixed_adapter

TO_Q = f"{UNET}.attn1.to_q"


def falling(shape: tuple[int, ...], rank: int, *, steepness: float, seed: int = 0) -> LowRank:
    """An update whose singular values fall by a factor from one to the next."""
    random = torch.Generator().manual_seed(seed)
    up = torch.linalg.qr(torch.randn(shape[0], rank, generator=random))[0]
    down = torch.linalg.qr(torch.randn(math.prod(shape[1:]), rank, generator=random))[0].T
    up = up * steepness ** torch.arange(rank)
    return LowRank(down.reshape(rank, *shape[1:]), up if len(shape) == 2 else up[..., None, None], rank * 2.0)


def steep_adapter(name: str = "steep") -> Adapter:
    """Modules of rank 8, of different steepness and size."""
    components: dict[str, dict[str, LowRank]] = {"unet": {}, "text_encoder": {}}
    places = [(c, p, s) for c, shapes in SHAPES.items() for p, s in shapes.items() if "time_emb" not in p]
    for i, (component, path, shape) in enumerate(places):
        components[component][path] = falling(shape, 8, steepness=0.3 + 0.08 * i, seed=i)
    return Adapter(name, components, {"lorastyle.base": "sd1"})


def apart(first: Adapter, second: Adapter) -> float:
    """The distance of all dense updates, over the norm of the first's."""
    lost = whole = 0.0
    for component, path, update in first.updates():
        lost += float((dense(update) - dense(second.components[component][path])).square().sum())
        whole += float(dense(update).square().sum())
    return math.sqrt(lost / whole)


def test_each_module_is_the_truncated_dense_svd() -> None:
    adapter = mixed_adapter()
    done = shrink(adapter, rank=2)
    for (component, path, update), told in zip(adapter.updates(), done.modules, strict=True):
        u, s, vh = torch.linalg.svd(dense(update).flatten(1), full_matrices=False)
        best = (u[:, :2] * s[:2] @ vh[:2]).reshape(update.shape)
        small = done.adapter.components[component][path]
        assert small.rank == min(2, update.rank) == told.after
        assert torch.allclose(dense(small), best, atol=1e-6)
        error = float((dense(update) - best).norm() / dense(update).norm())
        assert told.error == pytest.approx(error, abs=1e-6)
        assert (error > 0.05) == (update.rank > 2)
    assert done.error == pytest.approx(apart(adapter, done.adapter), rel=1e-5)


def test_what_keeps_its_rank_keeps_its_bits() -> None:
    adapter = mixed_adapter()
    done = shrink(adapter, rank=4)
    for component, path, update in adapter.updates():
        assert (done.adapter.components[component][path] is update) == (update.rank <= 4)


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.999])
def test_energy_is_the_fewest_ranks_that_hold_it(energy: float) -> None:
    adapter = steep_adapter()
    done = shrink(adapter, energy=energy)
    for told in done.modules:
        assert 1 - told.error**2 >= energy - 1e-9
        if told.after > 1:
            spectrum = adapter.components[told.component][told.path].spectrum()
            assert 1 - spectrum.error(told.after - 1) ** 2 < energy
    assert len({told.after for told in done.modules}) > 1


def test_numbers_are_spent_where_they_help_most() -> None:
    adapter = steep_adapter()
    spectra = {(c, p): u.spectrum() for c, p, u in adapter.updates()}
    most = adapter.parameters // 3
    done = shrink(adapter, numbers=most)
    assert most * 0.95 < done.adapter.parameters <= most
    even = max(
        (shrink(adapter, rank=rank) for rank in range(1, 9)),
        key=lambda one: (one.adapter.parameters <= most, one.adapter.parameters),
    )
    assert even.adapter.parameters <= most
    assert done.error < 0.8 * even.error
    assert by_numbers(spectra, adapter.parameters * 2) == dict.fromkeys(spectra, 8)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_file_of_a_size(tmp_path: Path, dtype: str) -> None:
    wide = {f"{UNET}.attn2.to_k": falling((320, 768), 32, steepness=0.8)}
    wide |= {f"{UNET}.attn2.to_v": falling((320, 768), 32, steepness=0.6, seed=1)}
    adapter = Adapter("wide", {"unet": wide}, {"lorastyle.base": "sd1", "lorastyle.rank": "32"})
    source = save_adapter(adapter, tmp_path / "wide.safetensors", dtype=dtype)
    shapes = {"unet": {path: (320, 768) for path in wide}}
    before = source.stat().st_size
    done = resize_adapter(source, tmp_path / "small.safetensors", most_bytes=before // 2, modules=shapes)
    assert 0.8 * before / 2 < done.bytes_after <= before / 2
    assert (done.bytes_before, done.dtype) == (before, dtype)
    small = load_adapter(done.path, shapes)
    tolerance = 1e-3 if dtype == "float16" else 1e-5
    assert apart(adapter, small) == pytest.approx(done.resized.error, abs=tolerance)
    assert done.resized.error > 0.01 and small.ranks[0] < small.ranks[-1]
    metadata = read_header(done.path).metadata
    assert metadata["ss_network_dim"] == "Dynamic" and "lorastyle.rank" not in metadata
    assert json.loads(metadata["lorastyle.resized"]) == {
        "from_rank": 32,
        "relative_error": round(done.resized.error, 6),
    }
    assert read_info(done.path).hashes != read_info(source).hashes
    assert set(small.components["unet"]) == set(wide)


def test_a_size_that_no_rank_has(tmp_path: Path) -> None:
    source = save_adapter(mixed_adapter(), tmp_path / "mixed.safetensors")
    with pytest.raises(AdapterError, match=r"no file of 0\.00 MB: at rank 1 everywhere it needs 0\.0\d MB"):
        resize_adapter(source, tmp_path / "small.safetensors", most_bytes=1000, modules=SHAPES)
    assert not (tmp_path / "small.safetensors").exists()


def test_a_file_that_is_there_is_left(tmp_path: Path) -> None:
    source = save_adapter(mixed_adapter(), tmp_path / "mixed.safetensors")
    before = source.read_bytes()
    with pytest.raises(AdapterFileError, match="is there already"):
        resize_adapter(source, source, rank=2, modules=SHAPES)
    assert source.read_bytes() == before


def test_what_is_not_low_rank_is_told_and_stays_when_asked() -> None:
    full = Difference(weight=torch.ones(24, 20))
    norm = Difference(weight=torch.ones(24))
    adapter = replace(mixed_adapter(), dense={"unet": {"conv_norm_out": norm}})
    assert shrink(adapter, rank=2).adapter.dense["unet"]["conv_norm_out"] is norm
    adapter = replace(adapter, dense={"unet": {"conv_norm_out": norm, TO_Q: full}})
    with pytest.raises(AdapterError, match=r"\(1 of full difference\), so it has no smaller rank"):
        shrink(adapter, rank=2)
    done = shrink(adapter, rank=2, partial=True)
    assert done.left_whole == {"full difference": 1} and done.adapter.dense["unet"][TO_Q] is full
    with pytest.raises(AdapterError, match="has no low-rank update"):
        shrink(Adapter("none", {}, dense={"unet": {TO_Q: full}}), rank=2, partial=True)


def test_an_update_of_nothing_stays_nothing() -> None:
    nothing = LowRank(torch.zeros(4, 20), torch.zeros(24, 4), 4.0)
    adapter = Adapter("none", {"unet": {TO_Q: nothing}})
    for settings in ({"rank": 2}, {"energy": 0.9}, {"numbers": 100}):
        done = shrink(adapter, **settings)  # type: ignore[arg-type]
        assert done.error == 0 and not done.adapter.components["unet"][TO_Q].delta().any()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "Say one of rank, energy and size"),
        ({"rank": 2, "energy": 0.9}, "Say one of rank, energy and size"),
        ({"rank": 0}, "rank is 0; it must be at least 1"),
        ({"energy": 1.5}, "energy is 1.5; it must be above 0 and at most 1"),
        ({"energy": math.nan}, "energy is nan"),
        ({"numbers": 3}, "rank 1 everywhere has 44 numbers, more than 3"),
    ],
)
def test_what_cannot_be_asked_for(settings: dict[str, float], told: str) -> None:
    adapter = Adapter("one", {"unet": {TO_Q: low_rank((24, 20), 4, 2.0)}})
    with pytest.raises((AdapterError, ConfigError)) as caught:
        shrink(adapter, **settings)  # type: ignore[arg-type]
    assert told in str(caught.value)
