"""Fields to requests and back, rows of adapters, and the copied command."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cyclopts import App

from lorastyle.cli.generate import generate
from lorastyle.errors import ConfigError
from lorastyle.generate import AdapterUse, GenerateRequest
from lorastyle.ui.command import command_line
from lorastyle.ui.form import Base, Form
from lorastyle.ui.page import opened_on
from lorastyle.ui.shelf import Card
from lorastyle.ui.slots import Row, on_slider, remember, rows_of, with_trigger
from lorastyle.ui.starts import StartPicture

BASE = Base("tiny", 64, 5.0, 0.0)
CARDS = {name: Card(name, name, "", Path(f"/library/{name}.safetensors")) for name in ("cat", "ink")}
FORM = replace(Form.empty(BASE), prompt=" a cat ", seed=7, locked=True)


def test_fields_become_a_request_and_come_back() -> None:
    form = replace(
        FORM, negative="rain", number=2, steps=9, guidance=3.5, scheduler="euler", clip_skip=2, hires=1.5,
        adapters=(("cat", Row(True, -0.5)), ("ink", Row(False, 1.0))),
    )  # fmt: skip
    request = form.request(CARDS, BASE)
    assert request.adapters == (AdapterUse("cat", -0.5, file=CARDS["cat"].path),)  # the other one is off
    assert (request.prompt, request.seed, request.number, request.guidance) == ("a cat", 7, 2, 3.5)
    back, remarks = Form.of(request, [("cat", Row(True, -0.5))], BASE)
    assert remarks == []
    assert replace(back, number=2).request(CARDS, BASE) == request
    assert replace(back, number=2, steps=8).request(CARDS, BASE) != request


def test_the_seed_is_drawn_by_lot_unless_kept() -> None:
    seeds = {replace(FORM, locked=False).request(CARDS, BASE).seed for _ in range(5)}
    assert len(seeds) == 5 and 7 not in seeds
    assert {FORM.request(CARDS, BASE).seed for _ in range(5)} == {7}


def test_guidance_is_left_to_the_base_only_with_its_scheduler() -> None:
    assert FORM.request(CARDS, BASE).guidance is None
    assert replace(FORM, scheduler="euler").request(CARDS, BASE).guidance == 5.0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prompt": "  "}, "the prompt is empty"),
        ({"adapters": (("../cat", Row()),)}, "no longer there"),
        ({"init": "/etc/passwd"}, "no longer there"),
        ({"steps": 0}, "steps"),
        ({"width": 10**9}, "width"),
        ({"scheduler": "__import__"}, "__import__"),
    ],
)
def test_fields_that_cannot_be_used(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        replace(FORM, **changes).request(CARDS, BASE)


def test_a_picture_to_start_from_is_called_by_its_id() -> None:
    held = {id: StartPicture(id, Path(f"/private/{id}.png"), "0" * 12, "") for id in ("cat", "hat")}
    form = replace(FORM, init="cat", mask="hat", strength=0.3)
    request = form.request(CARDS, BASE, held)
    assert (request.init, request.mask, request.strength) == ("/private/cat.png", "/private/hat.png", 0.3)
    alone = replace(form, init="").request(CARDS, BASE, held)  # neither share nor mask means anything
    assert (alone.init, alone.mask, alone.strength) == (None, None, None)
    line = command_line(request, {}, base=None)
    assert "--init cat.png --strength 0.3 --mask hat.png" in line and "private" not in line


def test_a_share_nobody_changed_is_the_bases_to_choose() -> None:
    held = {"cat": StartPicture("cat", Path("/private/cat.png"), "0" * 12, "")}
    asked = [replace(FORM, init="cat", strength=s).request(CARDS, BASE, held).strength for s in (0.6, 0.61)]
    assert asked == [None, 0.61]


def test_a_page_opened_while_a_training_runs_shows_it() -> None:
    def runs(*names: str) -> Any:
        return SimpleNamespace(active=lambda: list(names))

    assert opened_on(runs("a"))().selected == "train"
    assert not hasattr(opened_on(runs())(), "selected")


def test_what_the_page_has_no_room_for_is_told() -> None:
    request = GenerateRequest("a cat", steps=400)
    form, remarks = Form.of(request, [(str(i), Row()) for i in range(9)], BASE)
    assert (form.steps, len(form.adapters), len(remarks)) == (150, 8, 2)


def test_rows_keep_what_was_set_when_others_come_and_go() -> None:
    memory = remember({}, ["cat", "ink"], rows_of([True, 0.35, False, 0.7, True, 1, True, 1]))
    assert memory == {"cat": Row(True, 0.35), "ink": Row(False, 0.7)}
    after = remember(memory, ["ink"], rows_of([False, 0.8, True, 1]))
    assert after == {"cat": Row(True, 0.35), "ink": Row(False, 0.8)}


def test_a_scale_beyond_the_ends_is_told_and_what_is_no_number_counts_as_one() -> None:
    values = [True, 99, True, -99, True, None, True, float("nan"), True, "x"]
    rows = rows_of(values)
    assert [row.scale for row in rows] == [99, -99, 1, 1, 1]
    with pytest.raises(ConfigError) as error:
        replace(FORM, adapters=(("cat", rows[0]), ("ink", rows[1]))).request(CARDS, BASE)
    assert error.value.problems == (
        "Scale of cat is 99; -10 to 10 can be drawn here.",
        "Scale of ink is -99; -10 to 10 can be drawn here.",
    )
    off = replace(FORM, adapters=(("cat", Row(False, 99)), ("ink", Row(True, 10))))
    assert [use.scale for use in off.request(CARDS, BASE).adapters] == [10]
    assert [on_slider(scale) for scale in (-5, 0.3, 5)] == [-1, 0.3, 2]


@pytest.mark.parametrize(
    ("prompt", "result"),
    [("", "ink"), ("a cat", "a cat, ink"), ("a cat, ", "a cat, ink"), ("an INK cat", "an INK cat")],
)
def test_a_trigger_is_put_in_once(prompt: str, result: str) -> None:
    assert with_trigger(prompt, "ink") == result


@pytest.mark.parametrize(
    "prompt", ["a cat", 'it\'s; rm -rf / `id` $(id) "x"', "-n 4", "--help", "a\nb", "猫", "a  b*?"]
)
def test_the_command_draws_the_same_picture(prompt: str) -> None:
    request = GenerateRequest(
        prompt, negative_prompt="-rain", seed=7,
        adapters=(AdapterUse("ink-2", -0.5, file=Path("/a/my ink.safetensors")),),
        width=64, height=128, steps=9, guidance=3.5, guidance_rescale=0.5, clip_skip=2, scheduler="euler a",
        hires=1.5, hires_strength=0.3, number=2,
    )  # fmt: skip
    line = command_line(request, {Path("/a/my ink.safetensors"): "my ink"}, base="-odd")
    assert shlex.split(line)[:2] == ["lorastyle", "generate"]
    app = App()
    app.command(generate, name="generate")
    _, bound, _ = app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
    given = bound.arguments
    assert given["prompt"] == prompt
    assert tuple(given["adapter"]) == ("my ink:-0.5",)
    wanted = {
        "negative": "-rain", "seed": 7, "number": 2, "size": "64x128", "steps": 9, "guidance": 3.5,
        "guidance_rescale": 0.5, "clip_skip": 2, "scheduler": "euler a", "hires": 1.5, "hires_strength": 0.3,
        "base": "-odd",
    }  # fmt: skip
    assert {key: given[key] for key in wanted} == wanted
