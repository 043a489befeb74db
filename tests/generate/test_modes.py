"""Fused or not, it is the same picture, and the weights are the base's own when it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lorastyle.adapters import load_adapter
from lorastyle.bank import AdapterBank, attach
from lorastyle.bases import MODES as MEMORY_MODES
from lorastyle.bases import StableDiffusion, needs
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


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., bool]]:
    """What is decided for a stand-in of a card of so many bytes, in bfloat16 unless told otherwise."""
    made: dict[tuple[torch.dtype, AdapterUse], tuple[StableDiffusion, AdapterBank]] = {}

    def decide(
        use: AdapterUse,
        total: int = 8 << 30,
        dtype: torch.dtype = torch.bfloat16,
        memory: str = "fast",
        device: str = "cuda",
        **changes: object,
    ) -> bool:
        if (dtype, use) not in made:
            pipe = tiny_pipeline()
            pipe.unet.to(dtype)
            base = StableDiffusion(pipe, name="tiny", family="lorastyle-icons", dtype=dtype)
            bank = attach(base.components)
            bank.add(load_adapter(use.name, base.module_shapes()), scale=use.scale)
            made[dtype, use] = base, bank
        base, bank = made[dtype, use]
        request = replace(REQUEST, adapters=(use,), **changes)  # pyright: ignore[reportArgumentType]
        base.device = torch.device(device)
        base.placement.mode = MEMORY_MODES[memory]
        monkeypatch.setattr(modes, "device_memory", lambda device: total)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
        request = replace(request, hires_strength=0.4 if request.hires != 1 else None)
        return modes.fuses("auto", base, bank, request)

    yield decide


@pytest.mark.parametrize(
    ("settings", "pays"),
    [
        ({}, True),
        ({"dtype": torch.float32}, True),
        ({"dtype": torch.float16}, True),
        ({"number": 7}, True),
        ({"steps": 7}, False),
        ({"steps": 7, "number": 7}, False),  # each as if it were drawn alone
        ({"steps": 7, "hires": 2.0}, True),  # 7 and 2 calls
        ({"guidance": 1.0}, True),
        ({"memory": "offload"}, False),  # the weights wait in the machine's memory
        ({"memory": "sequential"}, False),
        ({"device": "mps"}, False),  # not measured
        ({"device": "xpu"}, False),
        ({"total": 1_000_000}, False),
        ({"combine": "composite"}, False),
    ],
    ids=str,
)
def test_on_a_card_auto_fuses_where_the_measurements_say_so(
    card: Callable[..., bool], cat: AdapterUse, settings: dict[str, object], pays: bool
) -> None:
    assert card(cat, **settings) == pays


@pytest.mark.parametrize("option", [{"stop": 0.5}, {"mask": "left"}, {"scale": 0.0}])
def test_on_a_card_what_moves_is_not_fused(
    card: Callable[..., bool], cat: AdapterUse, option: dict[str, object]
) -> None:
    assert not card(replace(cat, **option))  # pyright: ignore[reportArgumentType]


def test_on_a_card_the_second_copy_must_fit_beside_a_picture(
    card: Callable[..., bool], cat: AdapterUse
) -> None:
    """The smallest card on which it fits is found by halving: there a larger picture does not fit."""
    low, high = 0, 1 << 30
    while high - low > 1_000:
        middle = (low + high) // 2
        low, high = (low, middle) if card(cat, total=middle) else (middle, high)
    assert card(cat, total=high) and not card(cat, total=high, width=256, height=256)
    assert card(cat, total=high * 100, width=256, height=256)


def test_the_decision_does_not_ask_what_is_free(
    card: Callable[..., bool], cat: AdapterUse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(device: torch.device) -> int:
        raise AssertionError("what is free changes from run to run")

    monkeypatch.setattr(torch.cuda, "mem_get_info", asked)
    monkeypatch.setattr(needs, "free_memory", asked)
    assert card(cat)


def test_images_that_were_begun_from_take_fewer_calls(
    card: Callable[..., bool], cat: AdapterUse, init: str
) -> None:
    assert card(cat, init=init, strength=1.0)
    assert not card(cat, init=init, strength=0.5)
    assert card(cat, init=init, strength=0.5, steps=16)


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
