"""An adapter's options: how they are written, what is refused, and what they draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lorastyle.errors import ConfigError
from lorastyle.generate import (
    AdapterUse,
    Engine,
    GenerateRequest,
    Picture,
    Schedule,
    read_request,
    save_picture,
    with_tags_read,
)

MakeAdapter = Callable[..., Path]
REQUEST = GenerateRequest("a cat", seed=7, steps=4)


@pytest.mark.parametrize(
    ("text", "use"),
    [
        ("cat:0.8:te=0.5:unet=-1", AdapterUse("cat", 0.8, te=0.5, unet=-1.0)),
        ("cat:start=0.2:stop=.7", AdapterUse("cat", start=0.2, stop=0.7)),
        (
            "C:\\cat.safetensors:2:blocks=IN:0,MID:0.5",
            AdapterUse("C:\\cat.safetensors", 2.0, blocks="IN:0,MID:0.5"),
        ),
        ("cat:1:lbw=MID:0:te=0", AdapterUse("cat", blocks="MID:0", te=0.0)),
        ("cat:0@0.2,0.8@0.6", AdapterUse("cat", schedule="0@0.2,0.8@0.6")),
        ("cat:0.5:schedule=turn 1/2", AdapterUse("cat", 0.5, schedule="turn 1/2")),
    ],
)
def test_options_are_read_and_written(text: str, use: AdapterUse) -> None:
    assert AdapterUse.parse(text) == use
    assert AdapterUse.parse(str(use)) == use
    assert AdapterUse.from_dict(use.to_dict()) == use
    assert use != AdapterUse(use.name, use.scale)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("cat:0.8:tee=1", "te="),
        ("cat:te=1:te=2", "again"),
        ("cat:te=much", "te of 'cat'"),
        ("cat:unet=nan", "unet of 'cat'"),
        ("cat:start=0.7:stop=0.2", "before the stop"),
        ("cat:stop=1.5", "from 0 to 1"),
        ("cat:blocks=INN:0", "no block 'INN'"),
        ("cat:blocks=1,2,3", "3 numbers"),
        ("cat:schedule=fast", "0@0.2"),
        ("cat:1@0.6,0@0.2", "each later"),
        ("cat:1@2", "from 0 to 1"),
        ("cat:schedule=turn 3/2", "turn 3 of 2"),
        ("cat:1e999@0", "not finite"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        AdapterUse.parse(text)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        AdapterUse("cat", te=math.inf, start=2.0, blocks="X:1", schedule="?")
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("text", "factors"),
    [
        ("0@0.2,0.8@0.6", [0.0, 0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8]),
        ("hold 1@0,0@0.5", [1.0] * 5 + [0.0] * 5),
        ("cosine 0@0,1@0.4", [0.0, 0.1464466, 0.5, 0.8535534, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("turn 2/3 x2", [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]),
    ],
)
def test_schedules(text: str, factors: list[float]) -> None:
    schedule = Schedule.parse(text)
    assert [schedule.at(i, 10) for i in range(10)] == pytest.approx(factors)


def test_one_of_several_has_its_turn_at_every_step() -> None:
    turns = [Schedule.parse(f"turn {i}/3") for i in (1, 2, 3)]
    assert all(sum(turn.at(step, 20) for turn in turns) == 1 for step in range(20))


@pytest.mark.parametrize(
    ("prompt", "left", "uses"),
    [
        ("a cat <lora:ink:0.8>, wet", "a cat, wet", (AdapterUse("ink", 0.8),)),
        ("<lora:ink>a cat", "a cat", (AdapterUse("ink"),)),
        ("a cat<lora:ink:0.5:0.25>", "a cat", (AdapterUse("ink", 0.25, te=0.5),)),
        (
            "a <lora:ink:1:start=0.5> <lora:cat:0@0,1@1>",
            "a",
            (AdapterUse("ink", start=0.5), AdapterUse("cat", schedule="0@0,1@1")),
        ),
        ("a cat, 3 < 4 > 2", "a cat, 3 < 4 > 2", ()),
    ],
)
def test_tags_in_prompts(prompt: str, left: str, uses: tuple[AdapterUse, ...]) -> None:
    assert with_tags_read(GenerateRequest(prompt)) == GenerateRequest(left, adapters=uses)


def test_tags_go_with_the_other_adapters_and_are_checked() -> None:
    asked = GenerateRequest("a <lora:ink:2>", adapters=(AdapterUse("cat"),))
    assert [use.name for use in with_tags_read(asked).adapters] == ["cat", "ink"]
    for prompt in ("a <lora:cat>", "a <lora:>", "a <lora:x:speed=1>"):
        with pytest.raises(ConfigError):
            with_tags_read(replace(asked, prompt=prompt))


def pixels(engine: Engine, *uses: AdapterUse) -> bytes:
    return drawn(engine, *uses).image.tobytes()


def drawn(engine: Engine, *uses: AdapterUse) -> Picture:
    return engine.generate(replace(REQUEST, adapters=uses))[0]


def test_an_adapter_for_no_step_or_half_of_them(engine: Engine, make_adapter: MakeAdapter) -> None:
    use = AdapterUse(str(make_adapter("cat")), te=0.0)
    bare, whole = pixels(engine), pixels(engine, use)
    assert whole != bare
    half = pixels(engine, replace(use, stop=0.5))
    assert half not in (bare, whole)
    assert half == pixels(engine, replace(use, schedule="hold 1@0,0@0.5"))
    assert pixels(engine, replace(use, schedule="0@0")) == bare
    assert pixels(engine, replace(use, schedule="1@0")) == whole == pixels(engine, use)


def test_what_the_text_encoder_and_the_unet_get(engine: Engine, make_adapter: MakeAdapter) -> None:
    use = AdapterUse(str(make_adapter("cat")))
    bare, whole = pixels(engine), pixels(engine, use)
    only_unet, only_text = pixels(engine, replace(use, te=0.0)), pixels(engine, replace(use, unet=0.0))
    assert len({bare, whole, only_unet, only_text}) == 4
    assert pixels(engine, replace(use, blocks="BASE:0")) == only_unet
    assert pixels(engine, replace(use, blocks="UNET:0")) == only_text
    assert pixels(engine, use) == whole


def test_a_picture_keeps_the_options(engine: Engine, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    use = AdapterUse(str(make_adapter("cat")), 0.7, te=0.5, stop=0.5, blocks="MID:0", schedule="0@0,1@1")
    picture = drawn(engine, use)
    file = tmp_path / "cat.png"
    save_picture(picture, file)
    kept = read_request(file).adapters[0]
    assert replace(kept, name=use.name, hash=None) == use
