from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from lorastyle.bases.emphasis import spans
from lorastyle.errors import PictureError
from lorastyle.generate import (
    AdapterUse,
    GenerateRequest,
    Picture,
    portable_request,
    read_request,
    read_settings,
    save_picture,
)
from lorastyle.generate.metadata.a1111 import write_parameters
from lorastyle.generate.prompt_plan import is_plain

from .pictures import png

REQUEST = GenerateRequest(
    prompt='a "cat": red, 猫\nsecond line',
    negative_prompt="rain, snow",
    adapters=(AdapterUse("lib/cat.safetensors", 0.8, "0123456789ab"), AdapterUse("ink", -0.5)),
    seed=7,
    steps=12,
    guidance=3.5,
    width=64,
    height=128,
    scheduler="dpm++ 2m karras",
    base="embedded",
)
# what is saved of it: names, and no folder of somebody's disk
PORTABLE = replace(REQUEST, adapters=(replace(REQUEST.adapters[0], name="cat"), REQUEST.adapters[1]))


def picture(request: GenerateRequest = REQUEST) -> Picture:
    return Picture(Image.new("RGB", (64, 128), "red"), request)


def own(request: object, version: object = 2) -> str:
    return json.dumps({"version": version, "request": request})


def test_a_picture_remembers_its_request(tmp_path: Path) -> None:
    path = save_picture(picture(), tmp_path / "new" / "a.png")
    assert read_request(path) == PORTABLE
    with Image.open(path) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)
        chunk = json.loads(image.info["lorastyle"])
    assert chunk["version"] == 3
    assert {"torch", "diffusers"} <= set(chunk["libraries"])


def test_pictures_of_the_first_version_are_drawn_as_they_were(tmp_path: Path) -> None:
    """Then, brackets were letters and guidance was never rescaled."""
    old = own({"prompt": "a (red:1.3) cat\\", "negative_prompt": "[b]", "guidance": 4.0}, 1)
    request = read_request(png(tmp_path / "a.png", lorastyle=old))
    assert (request.guidance, request.guidance_rescale) == (4.0, 0.0)
    assert [span.weight for span in spans(request.prompt)] == [1.0]
    assert spans(request.prompt)[0].text == "a (red:1.3) cat\\"
    assert spans(request.negative_prompt)[0].text == "[b]"
    now = read_request(png(tmp_path / "b.png", lorastyle=own({"prompt": "a (red:1.3) cat"})))
    assert now.prompt == "a (red:1.3) cat" and now.guidance_rescale is None


def test_pictures_of_the_second_version_are_drawn_as_they_were(tmp_path: Path) -> None:
    """Then, A1111's operators were words."""
    old = own(
        {"prompt": "a CAT AND a [red:blue:0.5] (dog:1.3) BREAK [x|y]", "negative_prompt": "10:30 AND [b]"}
    )
    request = read_request(png(tmp_path / "a.png", lorastyle=old))
    assert request.prompt == r"a CAT and a [red\:blue\:0.5] (dog:1.3) break [x\|y]"
    assert is_plain(request.prompt, request.negative_prompt)
    assert [(span.text, round(span.weight, 3)) for span in spans(request.prompt)] == [
        ("a CAT and a ", 1.0),
        ("red:blue:0.5", 0.909),
        (" ", 1.0),
        ("dog", 1.3),
        (" break ", 1.0),
        ("x|y", 0.909),
    ]
    assert request.negative_prompt == "10:30 and [b]" and request.guidance_rescale is None
    new = own({"prompt": "a CAT AND a [red:blue:0.5]"}, 3)
    assert read_request(png(tmp_path / "b.png", lorastyle=new)).prompt == "a CAT AND a [red:blue:0.5]"


def test_without_metadata_there_is_nothing_to_read(tmp_path: Path) -> None:
    path = save_picture(picture(), tmp_path / "a.png", metadata=False)
    with Image.open(path) as image:
        assert not {"parameters", "lorastyle"} & set(image.info)
    with pytest.raises(PictureError, match="no request in this picture"):
        read_request(path)


def test_nothing_is_overwritten_and_nothing_is_left_behind(tmp_path: Path) -> None:
    paths = [save_picture(picture(), tmp_path / "a") for _ in range(3)]
    assert [path.name for path in paths] == ["a.png", "a-2.png", "a-3.png"]
    assert sorted(os.listdir(tmp_path)) == ["a-2.png", "a-3.png", "a.png"]
    assert paths[0].stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    paths = [save_picture(picture(), tmp_path / "a.png") for _ in range(2)]
    assert [path.name for path in paths] == ["a.png", "a-2.png"]
    assert [read_request(path) for path in paths] == [PORTABLE, PORTABLE]
    assert len(os.listdir(tmp_path)) == 2


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PictureError, match="No space left"):
        save_picture(picture(), tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a.gif", "a.png.bak"])
def test_other_formats_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(PictureError, match=r"saved as PNG, JPEG or WebP; .* Name it .*\.png"):
        save_picture(picture(), tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_the_text_is_what_a1111_writes() -> None:
    assert write_parameters(REQUEST, "0.1.0") == (
        'a "cat": red, 猫\nsecond line <lora:cat:0.8> <lora:ink:-0.5>\n'
        "Negative prompt: rain, snow\n"
        "Steps: 12, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 3.5, Seed: 7, Size: 64x128, "
        'Model: embedded, RNG: CPU, Lora hashes: "cat: 0123456789ab", Version: lorastyle 0.1.0'
    )


def test_the_text_alone_restores_what_it_can_say(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", parameters=write_parameters(REQUEST, "0.1.0"))
    found = read_request(path)
    assert (found.prompt, found.negative_prompt) == (REQUEST.prompt, REQUEST.negative_prompt)
    assert found.adapters == (AdapterUse("cat", 0.8, "0123456789ab"), AdapterUse("ink", -0.5))
    assert (found.seed, found.steps, found.guidance) == (7, 12, 3.5)
    assert (found.width, found.height, found.scheduler, found.base) == (64, 128, "dpm++ 2m karras", None)


def test_numbers_beyond_bounds_are_clamped_and_told(tmp_path: Path) -> None:
    sizes = {"width": 10**9, "height": 1}
    more = {"hires": 99, "hires_strength": 2, "guidance_rescale": -1, "clip_skip": 99}
    huge = {"prompt": "a", **sizes, "steps": 10**12, "guidance": 1e30, "number": 10**6, "seed": 3}
    expected = GenerateRequest("a", width=4096, height=16, steps=1000, guidance=100, seed=3)
    path = png(tmp_path / "a.png", lorastyle=own({**huge, **more}))
    request, remarks = read_settings(path)
    assert request == replace(expected, hires=4, hires_strength=1, guidance_rescale=0, clip_skip=12)
    assert {remark.split()[0] for remark in remarks} == {*sizes, *more, "steps", "guidance"}
    assert "width is 1000000000 in the picture: 4096 is used." in remarks
    text = "a\nSteps: 999999999, CFG scale: 1e30, Seed: 3, Size: 999999999x1, RNG: CPU"
    with pytest.warns(UserWarning, match=r"b\.png: (steps|guidance|width|height) is .* is used"):
        assert read_request(png(tmp_path / "b.png", parameters=text)) == expected


@pytest.mark.parametrize("seed", [-1, 2**53, 10**18])
def test_a_seed_that_cannot_be_is_left_open(tmp_path: Path, seed: int) -> None:
    parameters = f"a\nSteps: 1, CFG scale: 2, Seed: {seed}, RNG: CPU"
    for text in ({"lorastyle": own({"prompt": "a", "seed": seed})}, {"parameters": parameters}):
        request, remarks = read_settings(png(tmp_path / "a.png", **text))
        assert request.seed is None and remarks == [f"seed is {seed} in the picture: it is left open."]


def test_paths_of_strangers_are_made_names(tmp_path: Path) -> None:
    uses = [{"name": "../../etc/cat.safetensors"}, {"name": "C:\\x\\..\\ink"}, {"name": "oil/.."}]
    path = png(
        tmp_path / "a.png",
        lorastyle=own({"prompt": "a", "adapters": uses, "base": "/x/dream", "init": "/y/z.png"}),
    )
    request = read_request(path)
    assert [use.name for use in request.adapters] == ["cat", "ink", "oil"]
    assert (request.base, request.init) == ("dream", "z.png")


def test_a_share_that_is_none_is_left_open_and_a_yes_is_no_number(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", lorastyle=own({"prompt": "a", "hires": 2, "hires_strength": -1}))
    assert read_settings(path) == (
        GenerateRequest("a", hires=2.0),
        ["hires_strength is -1 in the picture: it is left open."],
    )
    with pytest.raises(PictureError, match="steps is True"):
        read_request(png(tmp_path / "b.png", lorastyle=own({"prompt": "a", "steps": True})))


def test_what_a_later_lorastyle_may_add_is_named_and_left_out(tmp_path: Path) -> None:
    use = {"name": "cat", "scale": 0.5, "rows": [1]}
    path = png(tmp_path / "a.png", lorastyle=own({"prompt": "a", "exec": "x", "adapters": [use]}))
    request, remarks = read_settings(path, keep_missing=True)
    assert request == GenerateRequest("a", adapters=(AdapterUse("cat", 0.5),))
    assert remarks[0] == "The request has 'exec', which this lorastyle does not know: left out."
    assert remarks[1].startswith("One of the adapters has 'rows'")


def test_another_tools_text_stands_in_for_ours(tmp_path: Path) -> None:
    parameters = write_parameters(PORTABLE, "0.1.0")
    for text in ("{", own({"prompt": "a"}, 4), own({"prompt": 3})):
        request, remarks = read_settings(png(tmp_path / "a.png", lorastyle=text, parameters=parameters))
        assert request.prompt == PORTABLE.prompt and "that of other tools was read" in remarks[0]
    with pytest.raises(PictureError, match="not valid JSON"):  # the first of two reasons
        read_request(png(tmp_path / "a.png", lorastyle="{", parameters="just a prompt"))


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ({"lorastyle": "{"}, "not valid JSON"),
        ({"lorastyle": "[" * 100_000}, "nested too deep"),
        ({"lorastyle": "[1]"}, "holds no request"),
        ({"lorastyle": own([])}, "holds no request"),
        ({"lorastyle": own({"prompt": "a"}, 4)}, "format version 4"),
        ({"lorastyle": own({"prompt": "a", "seed": "__import__('os')"})}, "seed is"),
        ({"lorastyle": own({"prompt": "a", "width": [1]})}, "width is"),
        ({"lorastyle": own({"prompt": "a", "adapters": {"a": 1}})}, "adapters is"),
        ({"lorastyle": own({"prompt": "a", "adapters": [[["x"]]]})}, "adapters"),
        ({"lorastyle": own({"prompt": "a"}).replace('"a"', "NaN")}, "NaN is no number"),
        ({"lorastyle": own({"prompt": "a" * 20_000})}, "prompt is"),
        ({"lorastyle": " " * 300_000}, "at most 262,144"),
        ({"parameters": "just a prompt"}, "no line of settings"),
        ({"parameters": "a\nSteps: many, Sampler: DDIM, Seed: 1"}, "Steps: 'many'"),
        ({"parameters": "a\nSteps: 1, Sampler: DDIM, Seed: 0x10"}, "Seed: '0x10'"),
        ({"parameters": "a <lora:x:1>\nSteps: 1, Sampler: DDIM, Seed: inf"}, "Seed: 'inf'"),
        ({"comment": "x"}, "no request in this picture"),
    ],
)
def test_hostile_or_corrupt_metadata(tmp_path: Path, texts: dict[str, str], why: str) -> None:
    path = png(tmp_path / "a.png", **texts)
    with pytest.raises(PictureError) as caught:
        read_request(path)
    assert why in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_text_that_swells_when_unpacked(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("lorastyle", " " * 20_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    assert (tmp_path / "a.png").stat().st_size < 50_000
    with pytest.raises(PictureError, match=r"its 'lorastyle' text has .* at most 262,144 are read"):
        read_request(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no such file"),
        (b"", "not a PNG, JPEG or WebP"),
        (b"\xff\xd8\xff\xe0 not a jpeg", "no request in this picture"),
        (b"RIFF....WEBP", "no request in this picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 64, r"cannot be read|not a PNG"),
    ],
)
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PictureError, match=why):
        read_request(path)
    with pytest.raises(PictureError, match="cannot be read"):
        read_request(tmp_path)


def test_a_name_of_the_hub_is_recorded_whole_and_a_path_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = GenerateRequest("a cat", adapters=(AdapterUse("ada/inks/ink.safetensors"),))
    assert portable_request(request).adapters[0].name == "ada/inks/ink.safetensors"
    (tmp_path / "ada" / "inks").mkdir(parents=True)
    (tmp_path / "ada" / "inks" / "ink.safetensors").write_bytes(b"")
    assert portable_request(request).adapters[0].name == "ink"
