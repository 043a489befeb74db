"""Tags as A1111's extensions, SD.Next and ComfyUI read them: the same typed and recorded, nothing lost."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from lorastyle.errors import ConfigError
from lorastyle.generate import AdapterUse, GenerateRequest, Schedule, with_tags_read
from lorastyle.generate.metadata.a1111 import write_parameters
from lorastyle.generate.metadata.infotext import read_parameters
from lorastyle.notes import collecting

LAST = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, RNG: CPU"


@pytest.mark.parametrize(
    ("tag", "use", "part"),
    [
        ("<loractl:cat:0.5>", AdapterUse("cat", 0.5), ""),
        ("<lora:cat:0.5@3;1@6>", AdapterUse("cat", schedule="0.5@0.15,1@0.3"), ""),
        ("<lora:cat:1~0.5,0>", AdapterUse("cat", schedule="1@0.5,0@1"), ""),
        ("<lora:cat:0@1,1@0.5>", AdapterUse("cat", schedule="1@0.5,0@1"), ""),
        ("<lora:cat:0@0,1@0.5,0@0.5>", AdapterUse("cat", schedule="0@0,1@0.5,0@0.5"), ""),
        ("<lora:cat:0@0,1@40>", AdapterUse("cat", schedule="0@0,0.5@1"), ""),
        ("<lora:cat:1@25,0@30>", AdapterUse("cat", schedule="1@1"), ""),
        ("<lora:cat:0.2@0,1@1:0.5>", AdapterUse("cat", 0.5, te=0.2), "text encoders use 0.2"),
        ("<lora:cat:te=0@0, 1@1:unet=1>", AdapterUse("cat", te=0.0, unet=1.0), "text encoders use 0 "),
        ("<lora:cat:1:hrte=0.5>", AdapterUse("cat"), "hrte='0.5'"),
        ("<lora:cat:1:hrunet=0.5>", AdapterUse("cat"), "hrunet='0.5'"),
        ("<lora:cat:1:w=OUTS>", AdapterUse("cat", blocks="1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1"), ""),
        ("<lora:cat:1:lbw=MYSET>", AdapterUse("cat"), "lbw='MYSET'"),
        ("<lora:cat:1:lbw=MIDDD>", AdapterUse("cat"), 'Did you mean "MIDD"?'),
        ("<lora:cat:0.7:FACE>", AdapterUse("cat", 0.7), "'FACE'"),
        ("<lora:cat:0.5:ROUT:0.7>", AdapterUse("cat", 0.5), "'ROUT'"),
        (f"<lora:cat:1:lbw=1,R{',1' * 15}>", AdapterUse("cat"), "random"),
        (f"<lora:cat:1:1,X+0.1{',U' * 15}>", AdapterUse("cat"), "random"),
        ("<lora:cat:1:1:LBW=SDXL-ALL;A=4.0;B=1.0>", AdapterUse("cat"), "SDXL-ALL"),
        ("<lora:cat:0.8:in=0.4:out=0.8>", AdapterUse("cat", 0.8, blocks="IN:0.5,OUT:1"), ""),
        ("<lora:cat:0:mid=1>", AdapterUse("cat", 0.0), "mid=1"),
        ("<lora:cat:1:module=unet>", AdapterUse("cat"), "module='unet'"),
        ("<lora cat> <lora:cat>", AdapterUse("cat"), "<lora cat>"),
        ("<LORA> <lora:cat>", AdapterUse("cat"), "<LORA>"),
    ],
)
def test_a_tag_is_read_in_the_way_of_its_program(tag: str, use: AdapterUse, part: str) -> None:
    with collecting() as notes:
        typed = with_tags_read(GenerateRequest(f"a {tag} cat", steps=20))
    found = read_parameters(f"a {tag} cat\n{LAST}")
    assert typed.adapters == found.request.adapters == (use,)
    assert typed.prompt == found.request.prompt == "a cat"
    assert list(found.remarks) == notes and bool(notes) == bool(part) and part in " ".join(notes)
    assert use != AdapterUse("cat", 0.123)


def loractl(points: list[tuple[float, float]], step: int) -> float:
    """The value at a step, of places that count steps, straight from one point to the next."""
    points = sorted(points, key=lambda point: point[0])
    if step <= points[0][0]:
        return points[0][1]
    for (start, value), (end, after) in pairwise(points):
        if start <= step < end:
            return value + (after - value) * (step - start) / (end - start)
    return points[-1][1]


def test_places_in_steps_are_loractls() -> None:
    rng = random.Random(7)
    for _ in range(200):
        steps = rng.randint(4, 40)
        places = rng.sample(range(2, 60), rng.randint(2, 5))
        points = [(float(place), rng.choice([0, 0.5, 1.2, -0.3])) for place in places]
        use = AdapterUse.parse("cat:" + ",".join(f"{value}@{place:g}" for place, value in points), steps)
        expected = [loractl(points, step) for step in range(steps)]
        assert [use.factor(step, steps) for step in range(steps)] == pytest.approx(expected, abs=1e-5)
        assert use.factor(0, steps) != pytest.approx(expected[0] + 0.1)


def test_a_schedule_may_jump() -> None:
    jump = Schedule.parse("0@0,1@0.5,0@0.5")
    assert [jump.at(step, 4) for step in range(4)] == [0, 0.5, 0, 0]
    with pytest.raises(ConfigError, match="each later"):
        Schedule.parse("1@0.6,0@0.2")


@pytest.mark.parametrize(
    ("tag", "use"),
    [
        ("<lora:cat:0.5:speed=1:stop=0.5>", AdapterUse("cat", 0.5, stop=0.5)),
        ("<lora:cat:0.5:lbw=1,2,3>", AdapterUse("cat", 0.5)),
        ("<lora:cat:0.5:te=?:start=0.2>", AdapterUse("cat", 0.5, start=0.2)),
        ("<lora:cat:nan:start=0.2>", None),
        ("<lora:cat:0.5" + ":speed=1" * 40 + ">", None),
    ],
)
def test_a_part_that_cannot_be_read_leaves_the_rest_of_a_recorded_tag(
    tag: str, use: AdapterUse | None
) -> None:
    with pytest.raises(ConfigError) as error:
        with_tags_read(GenerateRequest(f"a cat {tag}"))
    found = read_parameters(f"a cat {tag}\n{LAST}")
    assert found.request.adapters == ((use,) if use else ())
    end = "That part is left out." if use else "The tag is left out."
    assert any(str(error.value) in remark and remark.endswith(end) for remark in found.remarks)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a <lora:cat:0.8, wet, in the snow", "a, wet, in the snow"),
        ("a <lora:cat:0.8 wet", "a wet"),
        ("a <lora:cat:1:lbw=1,0,0 wet", "a wet"),
        ("<hypernet:x:1 a cat", "a cat"),
        ("a <lora:<lora:ink:1>:1> cat", "a cat"),
        ("a <lo<lora:a:1>ra:x:1>", "a"),
    ],
)
def test_of_a_broken_tag_the_words_behind_it_stay(prompt: str, words: str) -> None:
    with pytest.raises(ConfigError, match=r"has no > at its end|has a tag inside of it"):
        with_tags_read(GenerateRequest(prompt))
    found = read_parameters(f"{prompt}\n{LAST}")
    assert found.request.prompt == words
    assert any("The tag is left out." in remark for remark in found.remarks)


@pytest.mark.parametrize("tag", ["<lora:x:1>", "<LyCO:x>", "<emb:x>", "<lora x>", "<lora:x:1"])
def test_no_tag_is_drawn_as_words_of_the_negative_prompt(tag: str) -> None:
    with collecting() as notes:
        typed = with_tags_read(GenerateRequest("a cat", f"bad {tag}"))
    found = read_parameters(f"a cat\nNegative prompt: bad {tag}\n{LAST}")
    assert typed.negative_prompt == found.request.negative_prompt == "bad"
    assert list(found.remarks) == notes and len(notes) == 1 and tag in notes[0]


@pytest.mark.parametrize("text", ["bad <3 x", "worse <b> 3 < 4: 5"])
def test_a_negative_prompt_without_tags_is_as_it_was(text: str) -> None:
    with collecting() as notes:
        assert with_tags_read(GenerateRequest("a", text)).negative_prompt == text
    assert notes == []


def test_what_a1111_reads_in_another_way_is_said_of_its_images() -> None:
    tag = "a cat <lora:cat:0.8:te=0.5>"
    with collecting() as notes:
        assert with_tags_read(GenerateRequest(tag)).adapters == (AdapterUse("cat", 0.8, te=0.5),)
    assert notes == []
    found = read_parameters(f"{tag}\n{LAST}")
    assert found.request.adapters == (AdapterUse("cat", 0.8, te=0.5),)
    assert len(found.remarks) == 1 and "in A1111" in found.remarks[0] and "unet=0.5" in found.remarks[0]
    assert read_parameters(f"{tag}\n{LAST}, Version: lorastyle 1").remarks == ()
    both = "a cat <lora:cat:0.8:0.3>"
    assert read_parameters(f"{both}\n{LAST}").remarks == ()
    assert "swap" in read_parameters(f"{both}\n{LAST}, Version: ComfyUI").remarks[0]


def test_scales_are_read_back_to_the_last_digit() -> None:
    rng = random.Random(3)
    for _ in range(50):
        use = AdapterUse("cat", rng.uniform(-3, 3), te=rng.choice([None, rng.uniform(-3, 3)]))
        request = GenerateRequest("a cat", adapters=(use,), seed=1, guidance=7.0)
        assert read_parameters(write_parameters(request, "1")).request == request
        assert request != GenerateRequest("a cat", adapters=(AdapterUse("cat", 0.5),), seed=1, guidance=7.0)
