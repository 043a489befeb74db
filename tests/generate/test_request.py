from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from lorastyle.errors import ConfigError
from lorastyle.generate import SCHEDULERS, AdapterUse, GenerateRequest

FULL = GenerateRequest(
    prompt="a cat",
    negative_prompt="rain",
    adapters=(AdapterUse("cat", 0.8), AdapterUse("C:\\ink.safetensors", -1.5, "0123456789ab")),
    seed=7,
    steps=12,
    guidance=3.5,
    guidance_rescale=0.25,
    init="cat.png",
    init_hash="0123456789ab",
    strength=0.5,
    mask="mask.png",
    mask_hash="ba9876543210",
    hires=2.0,
    hires_strength=0.4,
    combine="composite",
    mixture=True,
    clip_skip=2,
    width=64,
    height=128,
    number=2,
    scheduler="euler a",
    base="embedded",
    base_hash="0123456789",
)


@pytest.mark.parametrize(
    ("text", "name", "scale"),
    [
        ("cat", "cat", 1.0),
        ("cat:0.8", "cat", 0.8),
        ("cat:-1", "cat", -1.0),
        ("cat:+.5", "cat", 0.5),
        ("cat:1e-1", "cat", 0.1),
        ("C:\\cats\\cat.safetensors", "C:\\cats\\cat.safetensors", 1.0),
        ("C:\\cats\\cat.safetensors:0.5", "C:\\cats\\cat.safetensors", 0.5),
        ("C:/cats/1:2", "C:/cats/1", 2.0),
        ("a:b:c", "a:b:c", 1.0),
        ("a:b:0", "a:b", 0.0),
        ("C:\\1:2\\cat", "C:\\1:2\\cat", 1.0),
        ("cat:0.8x", "cat:0.8x", 1.0),
        ('"cat:0.5"', "cat:0.5", 1.0),
        ('"my cat":0.5', "my cat", 0.5),
        ("猫:0.5", "猫", 0.5),
    ],
)
def test_only_a_number_at_the_end_is_a_scale(text: str, name: str, scale: float) -> None:
    assert AdapterUse.parse(text) == AdapterUse(name, scale)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat:nan", "'nan'"),
        ("file.safetensors:inf", "'inf'"),
        ("cat:-Infinity", "'-Infinity'"),
        ("cat:1e400", "'1e400'"),
        ("cat:", "missing"),
        ("cat:0,8", "'0,8'.* Write 0.8"),
        ("cat:80%", "'80%'"),
        ("cat:1/2", "'1/2'"),
        ("cat:0.8.1", "'0.8.1'"),
        ("cat:0.5:nan", "'nan'"),
        ("cat:1:2:3:4", "4 numbers"),
    ],
)
def test_a_scale_that_is_no_finite_number_is_no_part_of_the_name(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"'(cat|file.safetensors)'.*{said}"):
        AdapterUse.parse(text)


@pytest.mark.parametrize(
    "use",
    [AdapterUse("cat", 0.1 + 0.2), AdapterUse("a:0.5"), AdapterUse("C:\\x", -2), AdapterUse("a:nan", te=0.5)],
)
def test_text_of_an_adapter_is_read_back(use: AdapterUse) -> None:
    assert AdapterUse.parse(str(use)) == use


@pytest.mark.parametrize(
    ("name", "scale"), [("", 1.0), ("  ", 1.0), ("cat", float("inf")), ("cat", True), (3, 1.0)]
)
def test_adapters_that_cannot_be(name: Any, scale: Any) -> None:
    with pytest.raises(ConfigError):
        AdapterUse(name, scale)


def test_a_request_survives_json() -> None:
    assert GenerateRequest.from_dict(json.loads(json.dumps(FULL.to_dict()))) == FULL
    assert len(FULL.to_dict()) == len(fields(GenerateRequest))
    plain = GenerateRequest("a cat")
    assert GenerateRequest.from_dict(plain.to_dict()) == plain != FULL
    assert None not in plain.to_dict().values()


def test_adapters_may_be_text() -> None:
    request = GenerateRequest.from_dict({"prompt": "a", "adapters": ["cat:0.8", {"name": "ink"}]})
    assert request.adapters == (AdapterUse("cat", 0.8), AdapterUse("ink"))


def test_unknown_keys_are_errors_with_a_near_miss() -> None:
    with pytest.raises(ConfigError) as caught:
        GenerateRequest.from_dict({"promt": "a cat", "adapters": [{"name": "x", "weight": 2}]})
    first, second, third = caught.value.problems
    assert "unknown key 'promt'. Did you mean \"prompt\"?" in first
    assert "adapters: unknown key 'weight'" in second
    assert "prompt is missing" in third


def test_every_problem_is_listed_at_once() -> None:
    values: dict[str, Any] = {
        "prompt": 3,
        "negative_prompt": "x" * 10_001,
        "seed": -1,
        "steps": 0,
        "guidance": float("nan"),
        "guidance_rescale": 1.5,
        "clip_skip": 0,
        "width": 100,
        "height": 1 << 20,
        "number": 2.5,
        "scheduler": "eulr",
        "base": " ",
        "adapters": ("cat", 4),
    }
    with pytest.raises(ConfigError) as caught:
        GenerateRequest(**values)
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "prompt", "negative_prompt", "steps", "number", "clip_skip", "width", "height", "guidance",
        "guidance_rescale", "seed", "scheduler", "base", "adapters",
    ]  # fmt: skip
    assert 'Did you mean "euler"?' in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        GenerateRequest.from_dict({**values, "adapters": ["cat:1", 4], "colour": 1})
    assert len(caught.value.problems) == 14
    assert max(map(len, caught.value.problems)) < 270


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("DDIM", "ddim"),
        ("Euler a", "euler a"),
        ("euler_ancestral", "euler a"),
        ("k_euler", "euler"),
        ("dpmpp_2m", "dpm++ 2m"),
        ("DPM++ 2M Karras", "dpm++ 2m karras"),
        ("UniPC", "unipc"),
    ],
)
def test_schedulers_by_their_usual_names(word: str, name: str) -> None:
    assert GenerateRequest("a", scheduler=word).scheduler == name
    assert name in SCHEDULERS


def test_one_adapter_twice_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'cat' is there twice"):
        GenerateRequest("a", adapters=(AdapterUse("cat"), AdapterUse("cat", 0.5)))


def test_the_last_seed_must_fit_too() -> None:
    GenerateRequest("a", seed=2**53 - 1)
    with pytest.raises(ConfigError, match=f"from 0 to {2**53 - 4}"):
        GenerateRequest("a", seed=2**53 - 1, number=4)


def test_numbers_have_one_form() -> None:
    assert repr(GenerateRequest("a", guidance=3)) == repr(GenerateRequest("a", guidance=3.0))
