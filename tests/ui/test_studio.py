"""Drawing for many visitors: each gets what its request gives alone; stop, compare, restore."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lorastyle.errors import ConfigError, PictureError
from lorastyle.generate import AdapterUse, Engine, GenerateRequest, read_request, save_picture
from lorastyle.ui.drawing import View
from lorastyle.ui.form import Form
from lorastyle.ui.shelf import Card
from lorastyle.ui.slots import Row
from lorastyle.ui.studio import Studio
from lorastyle.ui.visitors import Visitor, Visitors

from .conftest import MakeAdapter


def form(
    studio: Studio, *adapters: tuple[str, float], seed: int = 7, steps: int = 3, number: int = 1
) -> Form:
    rows = tuple((id, Row(True, scale)) for id, scale in adapters)
    empty = Form.empty(studio.base)
    return replace(empty, prompt="a cat", seed=seed, locked=True, steps=steps, number=number, adapters=rows)


def draw(studio: Studio, visitor: Visitor, wanted: Form, *, compare: bool = False) -> View:
    """The last view."""
    *_, last = studio.draw(visitor, wanted, compare=compare)
    assert last.over and last.error is None
    return last


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_eight_visitors_at_once_get_what_each_gets_alone(
    studio: Studio, engine: Engine, visitors: Visitors, make_adapter: MakeAdapter
) -> None:
    for i in range(3):
        make_adapter(f"cat{i}", seed=i, strength=1.0)
    forms = [
        form(studio, (f"cat{i % 3}", 0.5 + i / 4), *([("cat1", -0.5)] if i % 3 == 0 else []), seed=i % 2)
        for i in range(8)
    ]

    def visit(i: int) -> View:
        return draw(studio, visitors.get(f"visitor {i}"), forms[i])

    with ThreadPoolExecutor(8) as pool:
        views = list(pool.map(visit, range(len(forms))))
    together = [pixels(view.drawn[0].path) for view in views]
    assert len(set(together)) == 8  # or being the same as alone would mean nothing
    for i, wanted in enumerate(forms):
        visitor = visitors.get(f"visitor {i}")
        assert views[i].drawn[0].path.is_relative_to(visitor.folder)
        alone = engine.generate(wanted.request(studio.cards(visitor), studio.base))[0]
        assert together[i] == alone.image.tobytes()


def test_stop_reaches_this_visitor_alone_within_two_steps(studio: Studio, visitors: Visitors) -> None:
    mine, other = visitors.get("mine"), visitors.get("other")
    at_stop = last = View()
    for last in studio.draw(mine, form(studio, steps=150, number=16)):
        if last.done and not at_stop.done:
            at_stop = last
            other.stop()
            mine.stop()
    assert last.over and last.stopped and at_stop.done > 0
    assert last.done <= at_stop.done + 2 < 150 * 4
    assert last.drawn == ()
    assert not draw(studio, mine, form(studio)).stopped  # the next one is not stopped by it
    endless = studio.draw(other, form(studio))
    mine.stop()
    assert not [*endless][-1].stopped


def test_stop_in_the_queue(studio: Studio, visitors: Visitors) -> None:
    visitor = visitors.get("me")
    visitor.queue_up()
    visitor.stop()
    last = draw(studio, visitor, form(studio))
    assert last.stopped and last.drawn == ()


def test_compared_pictures_differ_by_the_adapters_only(
    studio: Studio, engine: Engine, visitors: Visitors, make_adapter: MakeAdapter
) -> None:
    make_adapter("cat", strength=1.0)
    visitor = visitors.get("me")
    last = draw(studio, visitor, form(studio, ("cat", 1.0), number=2), compare=True)
    assert (last.done, len(last.drawn)) == (last.total, 2)
    bare = engine.generate(form(studio, number=2).request({}, studio.base))
    for drawn, expected in zip(last.drawn, bare, strict=True):
        assert drawn.without is not None
        assert pixels(drawn.without) == expected.image.tobytes() != pixels(drawn.path)
    assert draw(studio, visitor, form(studio), compare=True).drawn[0].without is None


def test_a_dropped_picture_draws_itself_again(
    studio: Studio, visitors: Visitors, make_adapter: MakeAdapter
) -> None:
    cat = make_adapter("cat", strength=1.0)
    visitor = visitors.get("me")
    first = draw(studio, visitor, form(studio, ("cat", 0.75))).drawn[0]
    restored = studio.restore(visitor, first.path)
    assert restored.remarks == () and restored.form.adapters == (("cat", Row(True, 0.75)),)
    assert pixels(draw(studio, visitor, restored.form).drawn[0].path) == pixels(first.path)
    other = replace(restored.form, adapters=(("cat", Row(True, 0.5)),))
    assert pixels(draw(studio, visitor, other).drawn[0].path) != pixels(first.path)
    cat.unlink()
    missing = studio.restore(visitor, first.path)
    assert missing.form.adapters == () and "cat" in missing.remarks[0] and "missing" in missing.remarks[0]


def test_no_picture_and_none_with_settings(studio: Studio, visitors: Visitors, tmp_path: Path) -> None:
    visitor = visitors.get("me")
    (tmp_path / "x.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    for name in ("x.png", "bare.png"):
        with pytest.raises(PictureError) as error:
            studio.restore(visitor, tmp_path / name)
        assert str(tmp_path) not in str(error.value)


def test_nothing_is_drawn_with_what_is_another_visitors(
    studio: Studio, visitors: Visitors, make_adapter: MakeAdapter
) -> None:
    card = studio.take_in(visitors.get("mine"), make_adapter("cat"))
    assert isinstance(card, Card)
    wanted = form(studio, (card.id, 1.0))
    assert len(draw(studio, visitors.get("mine"), wanted).drawn) == 1
    with pytest.raises(ConfigError, match="no longer there"):
        draw(studio, visitors.get("other"), wanted)


def test_adapters_that_the_prompt_names(
    studio: Studio, visitors: Visitors, make_adapter: MakeAdapter
) -> None:
    make_adapter("cat", seed=1, strength=1.0)
    make_adapter("ink", seed=2, strength=1.0)
    visitor = visitors.get("me")
    rows = draw(studio, visitor, form(studio, ("cat", 0.5), ("ink", 0.25))).drawn[0]
    tagged = replace(form(studio, ("cat", 0.5)), prompt="a cat <lora:ink:0.25>")
    last = draw(studio, visitor, tagged)
    assert pixels(last.drawn[0].path) == pixels(rows.path)
    assert last.drawn[0].request.prompt == "a cat" and last.notes == (
        "From the prompt: the adapter ink:0.25.",
    )
    assert "'a cat' -a cat:0.5 -a ink:0.25" in studio.command(visitor, last.drawn[0].request)
    assert read_request(last.drawn[0].path).adapters == read_request(rows.path).adapters
    stronger = draw(studio, visitor, replace(tagged, prompt="a cat <lora:ink.safetensors:0.5>"))
    assert pixels(stronger.drawn[0].path) != pixels(rows.path)
    off = replace(tagged, adapters=(("ink", Row(False, 1.0)), ("cat", Row(True, 0.5))))
    assert pixels(draw(studio, visitor, off).drawn[0].path) == pixels(rows.path)


def test_tags_that_are_not_used_are_said_and_not_drawn(
    studio: Studio, visitors: Visitors, make_adapter: MakeAdapter
) -> None:
    make_adapter("ink", seed=2, strength=1.0)
    visitor = visitors.get("me")
    plain = replace(form(studio), prompt="a cat", negative="rain")
    tagged = replace(plain, prompt="a cat <hypernet:x:1>", negative="rain <lora:ink:1>")
    last = draw(studio, visitor, tagged)
    assert last.drawn[0].request.prompt == "a cat" and last.drawn[0].request.negative_prompt == "rain"
    assert len(last.notes) == 2 and "hypernet" in last.notes[0] and "no effect" in last.notes[1]
    assert pixels(last.drawn[0].path) == pixels(draw(studio, visitor, plain).drawn[0].path)
    cut = draw(studio, visitor, replace(plain, prompt="a cat <lora:ink:0.5:0.5:16>"))
    assert len(cut.notes) == 2 and "the third number, 16," in cut.notes[0]


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a cat <lora:inc:1>", "'inc', which is not here. There is: ink. Did you mean \"ink\"?"),
        ("a cat <lora:../ink:1>", "which is not here"),
        ("a cat <lora:other:1>", 'which cannot be used: The adapter "other.safetensors" was made for'),
        ("a cat <lora:ink:1>", "ink is there twice"),
        ("<lora:ink:1>", "the prompt is empty"),
        ("a cat <lora:<lora:ink:1>:1>", "has a tag inside of it"),
        ("a cat <lora:ink:1:when=0>", "when="),
        ("a cat <lora:ink:1:mask=/tmp/secret.png>", "reads none from the disk"),
    ],
)
def test_tags_that_cannot_be_used(
    prompt: str, told: str, studio: Studio, visitors: Visitors, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    make_adapter("ink")
    make_adapter("other", family="sd1")
    wanted = replace(form(studio, ("ink", 1.0)), prompt=prompt)
    with pytest.raises(ConfigError) as error:
        draw(studio, visitors.get("me"), wanted)
    assert told in str(error.value) and str(tmp_path) not in str(error.value)


def test_what_no_row_has_room_for_comes_back_in_the_prompt(
    studio: Studio, engine: Engine, visitors: Visitors, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    cat, ink = make_adapter("cat", seed=1, strength=1.0), make_adapter("ink", seed=2, strength=0.1)
    uses = (AdapterUse(str(cat), 0.5, te=0.0, stop=0.7, mask="left"), AdapterUse(str(ink), 12.0))
    drawn = engine.generate(GenerateRequest("a cat", adapters=uses, seed=7, steps=4))[0]
    picture = save_picture(drawn, tmp_path / "out" / "x.png")
    visitor = visitors.get("me")
    restored = studio.restore(visitor, picture)
    assert restored.form.prompt == "a cat <lora:cat:0.5:te=0.0:stop=0.7:mask=left> <lora:ink:12.0>"
    assert restored.form.adapters == () and len(restored.remarks) == 2
    assert pixels(draw(studio, visitor, restored.form).drawn[0].path) == drawn.image.tobytes()
    plain = replace(restored.form, prompt="a cat <lora:cat:0.5> <lora:ink:12.0>")
    assert pixels(draw(studio, visitor, plain).drawn[0].path) != drawn.image.tobytes()


def test_a_mask_that_is_a_picture_is_left_out_and_told(
    studio: Studio, engine: Engine, visitors: Visitors, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(tmp_path / "face.png")
    use = AdapterUse(str(make_adapter("cat")), mask=str(tmp_path / "face.png"))
    drawn = engine.generate(GenerateRequest("a cat", adapters=(use,), seed=7, steps=2, width=64, height=64))
    restored = studio.restore(visitors.get("me"), save_picture(drawn[0], tmp_path / "x.png"))
    assert restored.form.adapters == () and restored.form.prompt == "a cat"
    assert any("face.png" in remark and "left out" in remark for remark in restored.remarks)
