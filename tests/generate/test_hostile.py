"""Requests and pictures from strangers: quick to refuse, short to explain."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lorastyle.errors import AdapterError, ConfigError, PictureError
from lorastyle.generate import AdapterUse, GenerateRequest, read_request, read_settings
from lorastyle.generate.metadata.infotext import read_parameters
from lorastyle.library import find_adapter

from .pictures import png

SETTINGS = "\nSteps: 30, Sampler: DDIM, CFG scale: 5, Seed: 7"
MINUTE = 60  # what took minutes, and takes milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "a\n" + "a " * 30_000,
        "a\nSteps: 1, B: 2, C: 3," + " " * 60_000 + "x",
        "<lora:" * 10_000 + SETTINGS,
        "a" + " " * 60_000 + "b" + SETTINGS,
        "a" + SETTINGS + ', Lora hashes: "' + "a" * 60_000 + '"',
        "a\n" * 30_000 + SETTINGS,
        '"' * 60_000 + SETTINGS,
    ],
    ids=["pairs", "spaces", "tags", "spaces in the prompt", "hashes", "lines", "quotes"],
)
def test_no_text_takes_long_to_read(text: str) -> None:
    start = time.monotonic()
    try:
        read_parameters(text)
    except (PictureError, ConfigError):
        pass  # told, which is as good as read
    assert time.monotonic() - start < MINUTE


def test_a_text_of_settings_is_read_whole() -> None:
    text = (
        "a cat <lora:cat:0.8>, sitting\n on a mat\nNegative prompt: dog <lora:no:1>\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 5, Size: 64x96, "
        'Lora hashes: "cat: 0123456789ab, other: ba9876543210", Version: v1.10'
    )
    request = read_parameters(text).request
    assert request.prompt == "a cat, sitting\n on a mat" and request.negative_prompt == "dog"
    assert request.adapters == (AdapterUse("cat", 0.8, "0123456789ab"),)
    assert (request.steps, request.guidance, request.seed) == (20, 6.5, 5)
    assert (request.width, request.height, request.scheduler) == (64, 96, "dpm++ 2m karras")


def test_a_text_as_long_as_a_book_is_refused() -> None:
    with pytest.raises(PictureError, match="at most"):
        read_parameters("a" * 100_000 + SETTINGS)


@pytest.mark.parametrize("value", [10**400, float("nan"), "7", True])
def test_numbers_that_are_none(value: object) -> None:
    with pytest.raises(ConfigError, match="guidance is"):
        GenerateRequest("a", guidance=value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the scale of"):
        AdapterUse("x", value)  # type: ignore[arg-type]
    assert GenerateRequest("a", guidance=7).guidance == 7.0


@pytest.mark.parametrize(
    "request_",
    [
        {"prompt": "a", "adapters": [{"name": "x", "scale": 10**400}]},
        {"prompt": "a", "adapters": [["x" * 100_000]]},
        {"prompt": "a", "adapters": [{"name": "x", "scale": "y" * 100_000}]},
        {"prompt": "a", "adapters": [f"a{i}" for i in range(20_000)]},
        {"prompt": "a", "adapters": ["x" * 5000, "x" * 5000]},
        {"prompt": "a", "base": "b" * 200_000},
        {"prompt": "\ud800"},
    ],
    ids=["overflow", "list", "scale", "many", "twice", "base", "half a character"],
)
def test_hostile_requests_get_a_short_answer(tmp_path: Path, request_: dict[str, object]) -> None:
    text = json.dumps({"version": 1, "request": request_})
    with pytest.raises(PictureError) as caught:
        read_request(png(tmp_path / "a.png", lorastyle=text))
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    "keys", [{f"key{i}": 1 for i in range(15_000)}, {"k" * 100_000: 1}], ids=["many", "long"]
)
def test_keys_that_nobody_knows_get_a_short_remark(tmp_path: Path, keys: dict[str, object]) -> None:
    text = json.dumps({"version": 3, "request": {"prompt": "a", **keys}})
    request, remarks = read_settings(png(tmp_path / "a.png", lorastyle=text))
    assert request == GenerateRequest("a")
    assert len(remarks) == 1 and len(remarks[0]) < 200


def test_one_request_is_recorded_in_one_way() -> None:
    whole = GenerateRequest("a", guidance=3, guidance_rescale=1, init="x.png", strength=1, hires=2)
    real = GenerateRequest("a", guidance=3.0, guidance_rescale=1.0, init="x.png", strength=1.0, hires=2.0)
    assert json.dumps(whole.to_dict()) == json.dumps(real.to_dict())


def test_a_picture_that_is_cut_off(tmp_path: Path) -> None:
    whole = png(tmp_path / "a.png").read_bytes()
    with pytest.raises(PictureError, match="there is no request in this picture"):
        read_request(whole)
    with pytest.raises(PictureError, match="the file is cut off"):
        read_request(whole[: len(whole) // 2])


def test_json_without_an_end(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="nested too deep"):
        read_request(png(tmp_path / "a.png", lorastyle="[" * 50_000 + "]" * 50_000))


@pytest.mark.parametrize("version", [True, 10**3000, "1", None])
def test_versions_that_are_none(tmp_path: Path, version: object) -> None:
    text = json.dumps({"version": version, "request": {"prompt": "a"}})
    with pytest.raises(PictureError) as caught:
        read_request(png(tmp_path / "a.png", lorastyle=text))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["a" * 300, "a/" * 3000, "a\0b", "~nobody-of-this-name"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(AdapterError) as caught:
        find_adapter(name)
    assert len(str(caught.value)) < 1000


def test_what_is_said_to_be_there_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORASTYLE_HOME", str(tmp_path / "home"))
    (tmp_path / "here.safetensors").write_bytes(b"x")
    (tmp_path / "adapters" / "folder.safetensors").mkdir(parents=True)
    assert find_adapter("here").name == "here.safetensors"
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "v1.5.safetensors").write_bytes(b"x")
    for name in ("made/v1.5", "./made/v1.5", str(tmp_path / "made" / "v1.5")):  # the first could be the Hub's
        assert find_adapter(name).samefile(tmp_path / "made" / "v1.5.safetensors")
    with pytest.raises(AdapterError):
        find_adapter("made/v1")
    with pytest.raises(AdapterError) as caught:
        find_adapter("folder")
    assert "Did you mean" not in str(caught.value) and "There is: here." in str(caught.value)
    with pytest.raises(AdapterError, match="no number"):
        find_adapter("here:nan")
