"""Several requests at once: each picture is the one that its request draws alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorastyle.errors import AdapterError
from lorastyle.generate import AdapterUse, Engine, GenerateRequest, Picture

MakeAdapter = Callable[..., Path]
REQUEST = GenerateRequest("a cat", negative_prompt="rain", seed=7, steps=3)


@pytest.fixture
def requests(make_adapter: MakeAdapter) -> list[GenerateRequest]:
    """Eight that go together, with adapters of their own, and three that do not."""
    uses = [AdapterUse(str(make_adapter(f"a{i}", seed=i)), 1.0 - 0.2 * i) for i in range(4)]
    asked = [replace(REQUEST, seed=i, adapters=(use,)) for i, use in enumerate(uses)]
    asked += [replace(REQUEST, prompt="a red dog", adapters=(uses[1], uses[2]))]
    asked += [REQUEST, replace(REQUEST, number=2, adapters=(replace(uses[3], te=0.0),))]
    asked += [replace(REQUEST, prompt="a cat, " * 40, adapters=(uses[0],))]  # more chunks than the others
    asked += [replace(REQUEST, steps=2), replace(REQUEST, width=48, height=32)]
    return [*asked, replace(REQUEST, adapters=(replace(uses[0], stop=0.5),))]


def apart(one: Picture, other: Picture) -> int:
    arrays = [np.asarray(picture.image).astype(int) for picture in (one, other)]
    return int(np.abs(arrays[0] - arrays[1]).max())


def test_each_is_as_alone(engine: Engine, requests: list[GenerateRequest]) -> None:
    calls: list[int] = []
    predict = engine.base.predict

    def counted(noisy: Any, *args: Any, **settings: Any) -> Any:
        calls.append(len(noisy) // 2)
        return predict(noisy, *args, **settings)

    engine.base.predict = counted
    try:
        many = engine.generate_many(requests)
    finally:
        engine.base.predict = predict
    assert max(calls) == engine.batch_size
    assert sum(calls) < 3 * sum(request.number for request in requests) and len(calls) < 3 * len(requests)
    alone = [engine.generate(request) for request in requests]
    assert [len(pictures) for pictures in many] == [request.number for request in requests]
    for mine, theirs in zip(many, alone, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert one.request == other.request
            assert apart(one, other) <= 2
    first = [pictures[0] for pictures in many]
    assert all(
        apart(first[i], first[j]) > 2 for i in range(8) for j in range(i) if first[i].image.size == (64, 64)
    )


def test_pictures_and_steps_are_told_as_they_come(engine: Engine, requests: list[GenerateRequest]) -> None:
    shares: list[float] = []
    told: list[int] = []
    many = engine.generate_many(
        requests,
        on_step=lambda done, total: shares.append(done / total),
        on_picture=lambda i, _: told.append(i),
    )
    assert sorted(told) == sorted(i for i, pictures in enumerate(many) for _ in pictures)
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_stop_keeps_what_is_finished(engine: Engine, requests: list[GenerateRequest]) -> None:
    stop = threading.Event()
    many = engine.generate_many(requests, on_picture=lambda _number, _picture: stop.set(), stop=stop)
    assert 0 < sum(map(len, many)) <= engine.batch_size
    assert engine.generate_many(requests[:2], stop=stop) == [[], []]


def test_a_batch_that_finds_no_memory_is_halved(
    engine: Engine, requests: list[GenerateRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = engine.generate_many(requests[:4])
    predict = engine.base.predict
    sizes: list[int] = []

    def small(noisy: Any, *args: Any, **settings: Any) -> Any:
        sizes.append(len(noisy))
        if len(noisy) > 4:
            raise torch.OutOfMemoryError("full")
        return predict(noisy, *args, **settings)

    monkeypatch.setattr(engine.base, "predict", small)
    halved = engine.generate_many(requests[:4])
    assert sizes[0] == 8 and set(sizes[1:]) == {4}
    assert all(apart(a[0], b[0]) <= 2 for a, b in zip(whole, halved, strict=True))

    def never(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(engine.base, "predict", never)
    with pytest.raises(torch.OutOfMemoryError):
        engine.generate_many(requests[:1])


def test_what_is_wrong_with_one_is_told_before_anything_is_drawn(
    engine: Engine, requests: list[GenerateRequest]
) -> None:
    drawn: list[int] = []
    bad = replace(REQUEST, adapters=(AdapterUse("nobody"),))
    with pytest.raises(AdapterError, match="nobody"):
        engine.generate_many([*requests, bad], on_picture=lambda i, _: drawn.append(i))
    assert not drawn
    assert engine.generate(REQUEST)[0].image.tobytes() == engine.generate(REQUEST)[0].image.tobytes()
