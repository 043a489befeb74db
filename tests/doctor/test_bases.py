"""Bases at hand, in a Hub cache that is made for it."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub.constants
import pytest

from lorastyle.doctor import Bases
from lorastyle.doctor.bases import look_at_bases
from tests.original import made, write_original

WEIGHTS = ("unet", "vae", "text_encoder")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.delenv("LORASTYLE_BASE", raising=False)
    return folder


def write_pipeline(folder: Path, kind: str, weights: tuple[str, ...] = WEIGHTS) -> None:
    folder.mkdir(parents=True)
    index: dict[str, object] = {"_class_name": kind, "image_encoder": [None, None]}
    for part in WEIGHTS:
        index[part] = ["diffusers", "Model"]
        (folder / part).mkdir()
        if part in weights:
            (folder / part / "model.safetensors").write_bytes(b"12345678")
    (folder / "model_index.json").write_text(json.dumps(index))


def write_cached(cache: Path, name: str, kind: str, weights: tuple[str, ...] = WEIGHTS) -> None:
    repo = cache / f"models--{name.replace('/', '--')}"
    write_pipeline(repo / "snapshots" / "1f2e", kind, weights)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("1f2e")
    (repo / "blobs").mkdir()


def names(bases: Bases) -> list[str]:
    return [base.name for base in bases.at_hand]


def test_without_a_cache_there_is_the_embedded_one() -> None:
    found = look_at_bases()
    assert found.default == "embedded" and names(found) == ["embedded"]
    assert found.at_hand[0].ready and found.at_hand[0].size > 10_000_000


def test_only_pipelines_that_can_be_drawn_with(cache: Path) -> None:
    write_cached(cache, "org/sdxl", "StableDiffusionXLPipeline")
    write_cached(cache, "org/half", "StableDiffusionPipeline", weights=("vae", "text_encoder"))
    write_cached(cache, "org/video", "SomeVideoPipeline")
    write_cached(cache, "org/fill", "StableDiffusionInpaintPipeline")
    write_cached(cache, "org/fill-xl", "StableDiffusionXLInpaintPipeline")
    (cache / "models--org--words" / "snapshots" / "1f2e").mkdir(parents=True)
    found = look_at_bases()
    assert names(found) == ["embedded", "org/fill", "org/fill-xl", "org/half", "org/sdxl"]
    _, fill, fill_xl, half, whole = found.at_hand
    assert fill.ready and fill_xl.ready
    assert (half.ready, half.note) == (False, "lacks the weights of unet")
    assert whole.ready and whole.size >= 24 and whole.source == "hub cache"


@pytest.mark.parametrize(
    ("name", "ready", "note"),
    [
        ("{tmp}/sd", True, ""),
        ("{tmp}/sd.safetensors", True, ""),
        ("{tmp}/damaged.safetensors", False, "8 bytes are too few"),
        ("{tmp}/empty", False, "no model_index.json"),
        ("{tmp}/nothing", False, "no such folder"),
        ("org/sdxl", False, "not downloaded yet"),
    ],
)
def test_the_one_that_is_set(
    name: str, ready: bool, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pipeline(tmp_path / "sd", "StableDiffusionPipeline")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.safetensors").write_bytes(b"12345678")
    write_original(made("sd1"), tmp_path / "sd.safetensors")
    name = name.replace("{tmp}", str(tmp_path))
    monkeypatch.setenv("LORASTYLE_BASE", name)
    found = look_at_bases()
    assert found.default == name and names(found) == ["embedded", name]
    assert found.at_hand[1].ready == ready and note in found.at_hand[1].note


def test_the_one_that_is_set_and_cached_is_there_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cached(cache, "org/sdxl", "StableDiffusionXLPipeline")
    monkeypatch.setenv("LORASTYLE_BASE", "org/sdxl")
    found = look_at_bases()
    assert names(found) == ["embedded", "org/sdxl"] and found.at_hand[1].ready


def test_a_revision_of_a_cached_model(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cached(cache, "org/sdxl", "StableDiffusionXLPipeline")
    monkeypatch.setenv("LORASTYLE_BASE", "org/sdxl@main")
    assert (base := look_at_bases().at_hand[1]).name == "org/sdxl@main" and base.ready
    monkeypatch.setenv("LORASTYLE_BASE", "org/sdxl@other")
    assert look_at_bases().at_hand[1].note == "not downloaded yet"


@pytest.mark.parametrize(("channels", "told"), [(4, "(sd-64)"), (9, "(sd-64, inpainting)")])
def test_a_checkpoint_says_what_it_is(
    channels: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_original(made("sd1", channels), tmp_path / "sd.safetensors")
    monkeypatch.setenv("LORASTYLE_BASE", str(file))
    assert look_at_bases().at_hand[1].kind == f"one checkpoint file {told}"
