"""Fused or not, it is the same picture, and the weights are the base's own when it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lorastyle.bases import StableDiffusion
from lorastyle.errors import ConfigError
from lorastyle.generate import AdapterUse, Engine, GenerateRequest, modes
from tests.tiny import tiny_pipeline

MakeAdapter = Callable[..., Path]
REQUEST = GenerateRequest("a cat", seed=7, steps=8, guidance=3.0)


@pytest.fixture
def fusings(engine: Engine) -> Iterator[list[int]]:
    """One for each time that the bank was fused."""
    seen: list[int] = []
    fuse = engine.bank.fuse

    def counted() -> None:
        seen.append(1)
        fuse()

    engine.bank.fuse = counted
    yield seen


@pytest.fixture
def cat(make_adapter: MakeAdapter) -> AdapterUse:
    return AdapterUse(str(make_adapter("cat")), 0.8)


def drawn(engine: Engine, request: GenerateRequest, mode: str) -> np.ndarray:
    engine.mode = mode
    return np.asarray(engine.generate(request)[0].image).astype(int)


def test_the_same_picture_by_both_ways(engine: Engine, cat: AdapterUse, fusings: list[int]) -> None:
    weights = [p.detach().clone() for p in engine.base.components["unet"].parameters()]
    request = replace(REQUEST, adapters=(cat,))
    bank = drawn(engine, request, "bank")
    assert not fusings
    fused = drawn(engine, request, "fused")
    assert len(fusings) == 1 and not engine.bank.is_fused
    assert np.abs(bank - fused).max() <= 2
    assert np.abs(bank - drawn(engine, REQUEST, "fused")).max() > 10
    after = [p for p in engine.base.components["unet"].parameters()]
    assert all(torch.equal(a, b) for a, b in zip(weights, after, strict=True))


@pytest.mark.parametrize(
    ("change", "pays"),
    [
        ({}, True),
        ({"steps": modes.FEWEST_CALLS - 1}, False),
        ({"number": 3, "steps": modes.FEWEST_CALLS - 1}, False),  # each as if it were drawn alone
        ({"adapters": ()}, False),
        ({"stop": 0.5}, False),
        ({"mask": "left"}, False),
        ({"scale": 0.0}, False),
    ],
)
def test_auto_fuses_where_it_pays(
    engine: Engine, cat: AdapterUse, fusings: list[int], change: dict[str, object], pays: bool
) -> None:
    own = {key: value for key, value in change.items() if hasattr(cat, key)}
    request = replace(REQUEST, adapters=(replace(cat, **own),))  # pyright: ignore[reportArgumentType]
    rest = {key: value for key, value in change.items() if key not in own}
    engine.generate(replace(request, **rest))  # pyright: ignore[reportArgumentType]
    assert bool(fusings) == pays


def test_auto_takes_little_memory_and_rounds_nothing(
    engine: Engine, cat: AdapterUse, fusings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(REQUEST, adapters=(cat,))

    def little(device: torch.device) -> int:
        return 1_000

    monkeypatch.setattr(modes, "free_memory", little)
    engine.generate(request)
    assert not fusings
    monkeypatch.undo()
    engine.generate(request)
    assert len(fusings) == 1
    pipe = tiny_pipeline().to(torch.bfloat16)
    half = Engine(StableDiffusion(pipe, name="tiny", family="lorastyle-icons", dtype=torch.bfloat16))
    half.bank.fuse = lambda: pytest.fail("fused in bfloat16, unasked")
    half.generate(request)


@pytest.mark.parametrize("option", [{"stop": 0.5}, {"schedule": "turn 1/2"}, {"mask": "left"}])
def test_what_moves_cannot_be_fused(engine: Engine, cat: AdapterUse, option: dict[str, str]) -> None:
    use = replace(cat, **option)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="mode bank"):
        drawn(engine, replace(REQUEST, adapters=(use,)), "fused")
    assert not engine.bank.is_fused


def test_modes_have_names(base: StableDiffusion) -> None:
    with pytest.raises(ConfigError, match='mean "fused"'):
        Engine(base, mode="fuzed")


def test_requests_with_adapters_of_their_own_are_fused_one_by_one(
    engine: Engine, cat: AdapterUse, make_adapter: MakeAdapter, fusings: list[int]
) -> None:
    requests = [
        replace(REQUEST, adapters=(cat,)),
        replace(REQUEST, adapters=(AdapterUse(str(make_adapter("dog", seed=4))),)),
    ]
    engine.mode = "fused"
    fused = engine.generate_many(requests)
    assert len(fusings) == 2
    engine.mode = "bank"
    for pictures, others in zip(fused, engine.generate_many(requests), strict=True):
        one, other = (np.asarray(p[0].image).astype(int) for p in (pictures, others))
        assert np.abs(one - other).max() <= 2
