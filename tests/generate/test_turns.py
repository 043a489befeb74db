"""While a picture is being saved, the engine is free for others; each still draws with its own adapters."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lorastyle.bases import StableDiffusion
from lorastyle.errors import ConfigError
from lorastyle.generate import AdapterUse, Engine, GenerateRequest, Picture

MakeAdapter = Callable[..., Path]
REQUEST = GenerateRequest("a cat", negative_prompt="rain", seed=7, steps=2)
LONG = 30.0  # seconds after which a thread counts as stuck


@pytest.fixture
def engine(base: StableDiffusion) -> Engine:
    return Engine(base, batch_size=1)


def same(pictures: list[Picture], others: list[Picture]) -> bool:
    return [p.image.tobytes() for p in pictures] == [p.image.tobytes() for p in others]


class SlowSave:
    """Saves that last until another thread is done."""

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()
        self.saved: list[Picture] = []

    def __call__(self, picture: Picture) -> None:
        self.begun.set()
        assert self.over.wait(LONG), "the other thread did not get in"
        self.saved.append(picture)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("mode", ["bank", "fused"])
def test_another_thread_draws_while_a_save_is_going_on(
    base: StableDiffusion, cat: AdapterUse, dog: AdapterUse, number: int, mode: str
) -> None:
    engine = Engine(base, batch_size=1, mode=mode)
    mine = replace(REQUEST, adapters=(cat,), number=number)
    others = [replace(REQUEST, adapters=(replace(dog, scale=0.5),)), REQUEST]
    alone = [engine.generate(request) for request in (mine, *others)]
    assert not any(same(alone[0][:1], other) for other in alone[1:])
    save = SlowSave()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(engine.generate, mine, on_picture=save)
        assert save.begun.wait(LONG)
        try:
            drawn = [engine.generate(request) for request in others]
        finally:
            save.over.set()
        assert all(same(one, other) for one, other in zip(drawn, alone[1:], strict=True))
        assert same(slow.result(), alone[0]) and same(save.saved, alone[0])
    assert not engine.bank.is_fused
    engine.bank.detach()


def test_several_requests_at_once_let_others_in_too(
    engine: Engine, cat: AdapterUse, dog: AdapterUse, make_adapter: MakeAdapter
) -> None:
    engine.batch_size = 2
    uses = [cat, dog, AdapterUse(str(make_adapter("ink", seed=8)))]
    asked = [replace(REQUEST, seed=i, adapters=(use,)) for i, use in enumerate(uses)]
    asked += [replace(REQUEST, adapters=(replace(cat, stop=0.5),))]
    another = replace(REQUEST, adapters=(AdapterUse(str(make_adapter("new", seed=9))),))
    alone = engine.generate_many(asked)
    save = SlowSave()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(engine.generate_many, asked, on_picture=lambda _, picture: save(picture))
        assert save.begun.wait(LONG)
        try:
            engine.generate(another)
        finally:
            save.over.set()
        assert all(same(mine, other) for mine, other in zip(slow.result(), alone, strict=True))
    engine.bank.detach()


def test_adapters_of_a_request_that_is_not_over_are_not_let_go(
    base: StableDiffusion, cat: AdapterUse, dog: AdapterUse
) -> None:
    """Its file may be gone by now."""
    engine = Engine(base, batch_size=1, keep_bytes=0)
    mine = replace(REQUEST, adapters=(cat,), number=2)
    alone = engine.generate(mine)
    seen: list[tuple[str, ...]] = []

    def save(picture: Picture) -> None:
        Path(cat.name).unlink(missing_ok=True)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(engine.generate, replace(REQUEST, adapters=(dog,))).result(LONG)
        seen.append(engine.bank.names)

    assert same(engine.generate(mine, on_picture=save), alone)
    assert seen == [("cat", "dog")] * 2
    engine.generate(REQUEST)
    assert engine.bank.names == ()
    engine.bank.detach()


def test_an_error_between_batches_leaves_the_engine_free_and_whole(
    base: StableDiffusion, cat: AdapterUse
) -> None:
    engine = Engine(base, batch_size=1, mode="fused")
    before = engine.generate(REQUEST)

    def full(picture: Picture) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        engine.generate(replace(REQUEST, adapters=(cat,), number=3), on_picture=full)
    assert not engine.bank.is_fused and same(engine.generate(REQUEST), before)
    engine.bank.detach()


def test_a_request_that_was_stopped_between_batches_waits_no_longer(engine: Engine) -> None:
    stop = threading.Event()
    inside, leave = threading.Event(), threading.Event()

    def hold(done: int, total: int) -> None:
        inside.set()
        assert leave.wait(LONG)

    with ThreadPoolExecutor(1) as pool:

        def save(picture: Picture) -> None:
            pool.submit(engine.generate, REQUEST, on_step=hold)
            assert inside.wait(LONG)
            stop.set()

        try:
            pictures = engine.generate(replace(REQUEST, number=3), on_picture=save, stop=stop)
        finally:
            leave.set()
    assert len(pictures) == 1
    engine.bank.detach()


def test_callbacks_still_cannot_draw(engine: Engine) -> None:
    for callback in ("on_step", "on_preview", "on_picture"):
        with pytest.raises(ConfigError, match="callback cannot draw"):
            engine.generate(REQUEST, **{callback: lambda *_: engine.generate(REQUEST)})  # type: ignore[arg-type]
    assert len(engine.generate(REQUEST)) == 1
    engine.bank.detach()
