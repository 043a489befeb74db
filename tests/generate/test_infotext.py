"""The text of A1111, Forge and Civitai: read in its old and new forms, and read back as we write it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorastyle.errors import ConfigError, PictureError
from lorastyle.generate import AdapterUse, GenerateRequest, with_tags_read
from lorastyle.generate.metadata.a1111 import write_parameters
from lorastyle.generate.metadata.infotext import read_parameters
from lorastyle.notes import collecting

LAST = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768, RNG: CPU"


def test_a_picture_of_a1111s_own() -> None:
    found = read_parameters(
        "photo of a dog <lora:fur:0.4:0.9> in <lora:oil:te=0.2:unet=0.7> snow\nand rain\n"
        "Negative prompt: ugly,\nblurry\n"
        "Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 123, Size: 512x768, "
        'Model hash: 6ce0161689, Model: v1-5, VAE hash: 735e4c3a44, VAE: vae-ft.pt, Lora hashes: "fur: '
        'aaaaaaaaaaaa, oil: bbbbbbbbbbbb", TI hashes: "easynegative: c74b4e810b03", Version: v1.10.1'
    )
    request = found.request
    assert request.prompt == "photo of a dog in snow\nand rain"
    assert request.negative_prompt == "ugly,\nblurry"
    assert request.adapters == (
        AdapterUse("fur", 0.9, "a" * 12, te=0.4),
        AdapterUse("oil", 1.0, "b" * 12, te=0.2, unet=0.7),
    )
    assert (request.scheduler, request.width, request.height, request.base) == ("euler a", 512, 768, None)
    assert (found.model, found.foreign) == ("v1-5 (6ce0161689)", True)
    assert request.base_hash == "6ce0161689"
    assert found.remarks == (
        "Settings that have no counterpart here are left out: VAE hash, VAE, TI hashes.",
    )


@pytest.mark.parametrize(
    ("sampler", "scheduler", "remark"),
    [
        ("Sampler: DPM++ 2M, Schedule type: Karras", "dpm++ 2m karras", ""),
        ("Sampler: DPM++ 2M Karras", "dpm++ 2m karras", ""),  # before A1111 1.9
        ("Sampler: DPM++ 2M", "dpm++ 2m", ""),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "dpm++ 2m karras", ""),
        ("Sampler: Euler, Schedule type: Uniform", "euler", ""),
        ("Sampler: Euler, Schedule type: SGM Uniform", "euler", "There is no schedule type 'SGM Uniform'"),
        ("Sampler: DPM adaptive, Schedule type: Karras", None, "no scheduler 'DPM adaptive Karras' here"),
        ("Sampler: DPM fast", None, "no scheduler 'DPM fast' here"),
        ("Sampler: PLMS", "pndm", ""),
    ],
)
def test_samplers_of_the_old_and_the_new_style(sampler: str, scheduler: str | None, remark: str) -> None:
    found = read_parameters(f"a\nSteps: 20, {sampler}, CFG scale: 7, Seed: 1")
    assert found.request.scheduler == scheduler
    assert len(found.remarks) == bool(remark) and remark in "".join(found.remarks)


def test_a_picture_drawn_at_a_higher_resolution() -> None:
    upscale = read_parameters(
        f"a\n{LAST}, Denoising strength: 0.7, Hires upscale: 1.5, Hires steps: 10, Hires upscaler: Latent"
    )
    assert (upscale.request.hires, upscale.request.hires_strength) == (1.5, 0.7)
    assert upscale.strength is None and "Hires steps" in upscale.remarks[0]
    resize = read_parameters(
        f"a\n{LAST}, Denoising strength: 0.5, Hires resize: 1024x1536, Hires upscaler: R-ESRGAN 4x+"
    )
    assert (resize.request.hires, resize.request.hires_strength) == (2.0, 0.5)
    assert "It was enlarged by 'R-ESRGAN 4x+'" in resize.remarks[0]


@pytest.mark.parametrize("more", ["", ", Hires upscale: 1"])
def test_a_picture_drawn_from_another(more: str) -> None:
    found = read_parameters(f"a\n{LAST}, Denoising strength: 0.35{more}")
    assert (found.strength, found.request.strength, found.request.hires) == (0.35, None, 1.0)


def test_values_in_json_quotes() -> None:
    found = read_parameters(
        f'a\n{LAST}, Model: "odd, \\"name\\": 1", Lora hashes: "x: 0123456789ab", ENSD: 31337'
    )
    assert found.model == 'odd, "name": 1'
    assert found.remarks == (
        "The adapters 'x' have hashes, and no tag says at which scale: left out.",
        "Settings that have no counterpart here are left out: ENSD.",
    )


def test_hashes_of_other_lengths_are_kept_for_looking() -> None:
    found = read_parameters(
        f'a <lora:x:1> <lora:y:1> <lora:z:1>\n{LAST}, Lora hashes: "x: 0123456789, y: {"A" * 64}, z: oops"'
    )
    assert found.digests == {"x": "0123456789", "y": "a" * 64}
    assert [use.hash for use in found.request.adapters] == [None, "a" * 12, None]


def test_tags_of_other_kinds() -> None:
    found = read_parameters(f"a <lyco:b:0.5> <hypernet:c:1> <lora:d> <lora:../../e:2> <lora:b:0.25>\n{LAST}")
    assert [(use.name, use.scale) for use in found.request.adapters] == [("b", 0.75), ("d", 1.0), ("e", 2.0)]
    assert found.request.prompt == "a"
    assert found.remarks == (
        "The tag '<hypernet:c:1>' names a hypernetwork, which lorastyle does not use. It is left out.",
    )


PROMPTS = [
    "a cat, sitting: \"quoted\" 'and' \\ (word:1.3) [less]",
    "first\n\nsecond, third\nSteps are not settings: 1, 2, 3",
    "猫が座っている、🐈‍⬛ zwj, ünïcödé, \u202ertl",
    "",
    '{"json": 1}',
]


@pytest.mark.parametrize("negative", PROMPTS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_are_read_back(prompt: str, negative: str) -> None:
    request = GenerateRequest(
        prompt, negative, (AdapterUse("cat", -0.5, "0" * 12),), seed=1, guidance=2.5, width=64, height=32
    )
    found = read_parameters(write_parameters(request, "1"))
    assert found.request == request
    assert (found.remarks, found.foreign) == ((), False)


def test_a_line_that_looks_like_the_negative_prompt_cannot_be_told_apart() -> None:
    request = GenerateRequest("a\nNegative prompt: not really", seed=1)
    assert read_parameters(write_parameters(request, "1")).request == replace(
        request, prompt="a", negative_prompt="not really", guidance=7.0
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a\nSteps: many, Sampler: DDIM, Seed: 1", "Steps: 'many'"),
        ("a\nSteps: 1, Sampler: DDIM, CFG scale: inf", "CFG scale: 'inf'"),
        ("a\nSteps: 1, Sampler: DDIM, Denoising strength: nan", "Denoising strength: 'nan'"),
        ("a\nSteps: 1, Sampler: DDIM, Seed: 1e3", "Seed: '1e3'"),
    ],
)
def test_what_is_no_number(text: str, why: str) -> None:
    with pytest.raises(PictureError, match=r".") as caught:
        read_parameters(text)
    assert why in str(caught.value)


TAGS = [
    ("<lora:cat:0.8>", AdapterUse("cat", 0.8)),
    ("<lora:cat>", AdapterUse("cat")),
    ("<LoRA:cat:0.8>", AdapterUse("cat", 0.8)),
    ("< lora : cat :0.8>", AdapterUse("cat", 0.8)),
    ("<lyco:cat:0.8>", AdapterUse("cat", 0.8)),
    ('<lora:"cat":0.8>', AdapterUse("cat", 0.8)),
    ("<lora:cat:0.8:0.3>", AdapterUse("cat", 0.3, te=0.8)),
    ("<lora:cat:0.5:0.5>", AdapterUse("cat", 0.5)),
    ("<lora:cat:te=0.2:unet=0.7>", AdapterUse("cat", te=0.2, unet=0.7)),
    ("<lora:cat:1.0@0.0,0.5@0.5>", AdapterUse("cat", schedule="1.0@0.0,0.5@0.5")),
    ("<lora:cat:0@0,1@10>", AdapterUse("cat", schedule="0@0,1@0.5")),
    ("<lora:cat:0.4:unet=0@0,1@0.5>", AdapterUse("cat", te=0.4, schedule="0@0,1@0.5")),
    ("<lora:cat:0.4:0@0,1@0.5>", AdapterUse("cat", te=0.4, schedule="0@0,1@0.5")),
    ("<lora:cat:1:OUTALL>", AdapterUse("cat", blocks=",".join("1000000011111111 1".replace(" ", "")))),
    ("<lora:cat:1:lbw=IND>", AdapterUse("cat", blocks=",".join("10001110000000000"))),
    (
        "<lora:cat:0.8:lbw=1,0,0,0,1,1,1,1,1,1,1,1,1,1,1,1,1:start=0.2>",
        AdapterUse("cat", 0.8, start=0.2, blocks="1,0,0,0,1,1,1,1,1,1,1,1,1,1,1,1,1"),
    ),
    (
        "<lora:cat:1:0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1>",
        AdapterUse("cat", blocks="0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1"),
    ),
    ("<lora:cat:1:start=5:stop=15>", AdapterUse("cat", start=0.25, stop=0.75)),
    ("<lora:cat:1:step=5-10>", AdapterUse("cat", start=0.25, stop=0.5)),
    ("<lora:cat:1:lbw=ALL:stop=9>", AdapterUse("cat", stop=0.45, blocks=",".join("1" * 17))),
]


@pytest.mark.parametrize(("tag", "use"), TAGS)
def test_a_tag_means_the_same_typed_and_recorded(tag: str, use: AdapterUse) -> None:
    with collecting() as notes:
        typed = with_tags_read(GenerateRequest(f"a {tag} cat", steps=20))
    found = read_parameters(f"a {tag} cat\n{LAST}")
    assert typed.adapters == found.request.adapters == (use,)
    assert typed.prompt == found.request.prompt == "a cat"
    assert list(found.remarks) == notes == []
    assert with_tags_read(GenerateRequest("a <lora:cat:0.123>")).adapters != (use,)


@pytest.mark.parametrize(
    ("tag", "use", "part"),
    [
        ("<lora:cat:0.8:0.5:16>", AdapterUse("cat", 0.5, te=0.8), "the third number, 16,"),
        ("<lora:cat:0.8:dyn=16>", AdapterUse("cat", 0.8), "dyn='16'"),
        ("<lora:cat:1:hr=0.5>", AdapterUse("cat"), "hr='0.5'"),
        ("<lora:cat:1:te=0.3@0,1@0.5>", AdapterUse("cat", te=0.3), "te='0.3@0,1@0.5'"),
        ("[<lora:cat:1>:0.5]", AdapterUse("cat"), "acts at all steps"),
    ],
)
def test_what_of_a_tag_cannot_be_done_is_said(tag: str, use: AdapterUse, part: str) -> None:
    with collecting() as notes:
        typed = with_tags_read(GenerateRequest(f"a cat {tag}", steps=20))
    found = read_parameters(f"a cat {tag}\n{LAST}")
    assert typed.adapters == found.request.adapters == (use,)
    assert list(found.remarks) == notes and len(notes) == 1 and part in notes[0]


@pytest.mark.parametrize("tag", ["<hypernet:x:1>", "<Hypernet:x>", "<segment:face>", "<wildcard:animal>"])
def test_other_tags_are_left_out_with_a_note(tag: str) -> None:
    with collecting() as notes:
        typed = with_tags_read(GenerateRequest(f"a cat {tag}, red"))
    found = read_parameters(f"a cat {tag}, red\n{LAST}")
    assert typed.prompt == found.request.prompt == "a cat, red"
    assert list(found.remarks) == notes and len(notes) == 1 and tag in notes[0]


@pytest.mark.parametrize(
    ("tag", "problem"),
    [
        ("<lora:cat:0.8", "has no > at its end"),
        ("<lora:cat:nan>", "'nan'"),
        ("<lora:cat:1e999>", "'1e999'"),
        ("<lora:cat:1:te=?>", "te of 'cat'"),
        ("<lora:cat:1:speed=1>", "speed="),
        ("<lora:cat:1:lbw=1,2,3>", "3 numbers"),
        ("<lora::1>", "name"),
        ("<lora:cat:1:2:3:4>", "4 numbers"),
        ("<lora:<lora:cat:1>:1>", "has a tag inside of it"),
    ],
)
def test_a_tag_that_cannot_be_read_is_refused_typed_and_said_recorded(tag: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        with_tags_read(GenerateRequest(f"a cat {tag}"))
    found = read_parameters(f"a cat {tag}\n{LAST}")
    assert problem in str(error.value) and problem in " ".join(found.remarks)
    assert "lora" not in found.request.prompt


@pytest.mark.parametrize("text", ["3 < 4 > 2", "<3", "a <b> c", "x<y: z", "i <3 cats: two"])
def test_what_only_looks_like_a_tag_is_text(text: str) -> None:
    with collecting() as notes:
        assert with_tags_read(GenerateRequest(text)) == GenerateRequest(text)
    assert read_parameters(f"{text}\n{LAST}").request.prompt == text and notes == []


def test_tags_in_the_negative_prompt_have_no_effect() -> None:
    with collecting() as notes:
        typed = with_tags_read(GenerateRequest("a cat", "bad <lora:ugly:1>, worse"))
    found = read_parameters(f"a cat\nNegative prompt: bad <lora:ugly:1>, worse\n{LAST}")
    assert typed.negative_prompt == found.request.negative_prompt == "bad, worse"
    assert typed.adapters == found.request.adapters == ()
    assert list(found.remarks) == notes and "no effect" in notes[0]


@pytest.mark.parametrize(
    "text",
    [
        f"a cat. Negative prompt: bad. {LAST}",
        f"a cat Negative prompt: bad {LAST}",
        f"a cat\nNegative prompt: bad\n{LAST}",
        f"a cat\r\nNegative prompt: bad\r\n{LAST}",
        f"a cat\nNegative prompt: bad\n{LAST.replace(', Sampler', chr(10) + 'Sampler')}",
    ],
)
def test_one_line_and_many_say_the_same(text: str) -> None:
    request = read_parameters(text).request
    assert request.prompt.rstrip(".") == "a cat" and request.negative_prompt.rstrip(".") == "bad"
    assert (request.steps, request.seed, request.width) == (20, 5, 512)


def test_hashes_in_a_table() -> None:
    table = '{"LORA:old name": "ABCDEF0123", "model": "6ce0161689", "lora:gone": "0123456789"}'
    found = read_parameters(f"a <lora:old name:0.8>\n{LAST}, Hashes: {table}, Version: v1.10")
    assert found.digests == {"old name": "abcdef0123"}
    assert found.request.base_hash == "6ce0161689"
    assert found.remarks == ("The adapters 'gone' have hashes, and no tag says at which scale: left out.",)
