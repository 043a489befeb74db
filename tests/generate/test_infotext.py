"""The text of A1111, Forge and Civitai: read in its old and new forms, and read back as we write it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorastyle.errors import PictureError
from lorastyle.generate import AdapterUse, GenerateRequest
from lorastyle.generate.metadata.a1111 import write_parameters
from lorastyle.generate.metadata.infotext import read_parameters

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
    assert request.adapters == (AdapterUse("fur", 0.9, "a" * 12), AdapterUse("oil", 0.7, "b" * 12))
    assert (request.scheduler, request.width, request.height, request.base) == ("euler a", 512, 768, None)
    assert (found.model, found.foreign) == ("v1-5 (6ce0161689)", True)
    assert request.base_hash == "6ce0161689"
    assert found.remarks == (
        "The adapter 'fur' has the scale '0.4' on the text encoder and '0.9' on the UNet: the latter is used "
        "for both.",
        "The adapter 'oil' has the scale '0.2' on the text encoder and '0.7' on the UNet: the latter is used "
        "for both.",
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
    assert found.remarks == ("Settings that have no counterpart here are left out: ENSD.",)


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
    assert found.remarks == ("The hypernetwork 'c' is left out: there are none here.",)


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
        ("a <lora:x:1e999>\nSteps: 1, Sampler: DDIM, Seed: 1", "scale '1e999'"),
        ("a <lora:x:1:te=?>\nSteps: 1, Sampler: DDIM, Seed: 1", "scale '?'"),
    ],
)
def test_what_is_no_number(text: str, why: str) -> None:
    with pytest.raises(PictureError, match=r".") as caught:
        read_parameters(text)
    assert why in str(caught.value)
