"""A prompt is read once for each setting of the text encoders, and never taken for another's."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorastyle.generate import AdapterUse, Engine, GenerateRequest
from lorastyle.generate import readings as module
from lorastyle.generate.residents import Residents

MakeAdapter = Callable[..., Path]
REQUEST = GenerateRequest("a cat", negative_prompt="rain", seed=7, steps=2, guidance=3.0)


@pytest.fixture
def asked(engine: Engine) -> Generator[list[str]]:
    """The prompts that the text encoder was really asked for."""
    prompts: list[str] = []
    read = engine.base.read

    def counted(wanted: Any, unwanted: Any, **more: Any) -> Any:
        prompts.extend(wanted)
        return read(wanted, unwanted, **more)

    engine.base.read = counted  # pyright: ignore[reportAttributeAccessIssue]
    yield prompts
    engine.base.read = read


def test_new_scales_on_the_unet_read_nothing_anew(engine: Engine, cat: AdapterUse, asked: list[str]) -> None:
    first = engine.generate(replace(REQUEST, adapters=(cat,)))[0].image.tobytes()
    for use in (replace(cat, unet=0.3), replace(cat, unet=-1.0), replace(cat, stop=0.5), cat):
        last = engine.generate(replace(REQUEST, adapters=(use,)))[0].image.tobytes()
    assert asked == ["a cat"]
    assert last == first


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a dog"},
        {"negative_prompt": ""},
        {"guidance": 1.0},
        {"clip_skip": 2},
        {"te": 0.5},
        {"blocks": "BASE:0.5"},
        {"name": "another"},
    ],
)
def test_whatever_changes_the_reading_is_read_anew(
    engine: Engine, cat: AdapterUse, make_adapter: MakeAdapter, asked: list[str], change: dict[str, object]
) -> None:
    request = replace(REQUEST, adapters=(cat,))
    own = {key: value for key, value in change.items() if hasattr(cat, key)}
    if "name" in own:
        own["name"] = str(make_adapter("another", seed=3))
    changed = replace(request, **{k: v for k, v in change.items() if k not in own})  # pyright: ignore
    changed = replace(changed, adapters=(replace(cat, **own),))  # pyright: ignore
    fresh = [engine.generate(one)[0].image.tobytes() for one in (request, changed)]
    assert len(asked) == 2 and fresh[0] != fresh[1]
    assert [engine.generate(one)[0].image.tobytes() for one in (request, changed)] == fresh
    assert len(asked) == 2


def test_an_adapter_that_left_and_came_back_is_another(
    engine: Engine, cat: AdapterUse, make_adapter: MakeAdapter, asked: list[str]
) -> None:
    first = engine.generate(replace(REQUEST, adapters=(cat,)))[0].image.tobytes()
    engine.bank.detach()
    engine._residents = Residents(engine.bank, engine.base, 10**9)  # pyright: ignore[reportPrivateUsage]
    make_adapter("cat", seed=9)  # under the same name
    second = engine.generate(replace(REQUEST, adapters=(cat,)))[0].image.tobytes()
    assert len(asked) == 2 and first != second


def test_while_an_adapter_is_trained_nothing_is_remembered(engine: Engine, asked: list[str]) -> None:
    engine.bank.create("fresh", {"text_encoder": ["attention"]}, rank=2)
    for _ in range(2):
        engine.generate(REQUEST)
    assert len(asked) == 2
    engine.bank.remove("fresh")
    for _ in range(2):
        engine.generate(REQUEST)
    assert len(asked) == 3


def test_what_is_remembered_has_an_end(
    engine: Engine, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, unwanted = engine.base.read(["a cat"], ["rain"])
    one = module.Words((wanted,), unwanted).nbytes
    asked.clear()
    monkeypatch.setattr(module, "MOST_BYTES", 3 * one)
    prompts = [f"a cat {i}" for i in range(4)]
    for prompt in (*prompts, prompts[-1], prompts[0]):
        engine.generate(replace(REQUEST, prompt=prompt))
    assert asked == [*prompts, prompts[0]]
