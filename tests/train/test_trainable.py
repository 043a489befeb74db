"""Bases that are drawn with and not trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lorastyle.bases import StableDiffusion, open_pipeline
from lorastyle.errors import BaseError
from lorastyle.train import fit, trainable
from tests.tiny import inpainting, tiny_pipeline, tiny_xl_pipeline
from tests.train.running import short


@pytest.mark.parametrize(
    ("family", "named"),
    [
        ("sd1", r"Stable Diffusion 1\.x\).*stable-diffusion-v1-5/stable-diffusion-v1-5:"),
        ("sd2", r"Stable Diffusion 2\.x\).*stable-diffusion-2-base:"),
        ("sdxl", r"Stable Diffusion XL\).*stabilityai/stable-diffusion-xl-base-1\.0:"),
        ("sd-16", r"sd-16\).*text-to-image sibling:"),
    ],
)
def test_an_inpainting_base_names_its_sibling(images: Path, out: Path, family: str, named: str) -> None:
    base = open_pipeline(inpainting(tiny_pipeline(in_channels=9)), name="nine", family=family)
    with pytest.raises(BaseError, match=rf'"nine" is an inpainting model \({named} the adapter fits'):
        fit(short(images, out), base=base)
    assert not out.parent.exists()


def test_a_folder_of_one_is_refused_before_it_is_loaded(
    images: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> StableDiffusion:
        raise AssertionError("loaded")

    monkeypatch.setattr(trainable, "load_base", load)
    inpainting(tiny_xl_pipeline(in_channels=9)).save_pretrained(tmp_path / "nine")
    tiny_xl_pipeline().save_pretrained(tmp_path / "four")
    with pytest.raises(BaseError, match="inpainting model"):
        fit(short(images, out, base=str(tmp_path / "nine")))
    with pytest.raises(AssertionError, match="loaded"):
        fit(short(images, out, base=str(tmp_path / "four")))


def test_one_that_could_not_be_looked_at_before_is_refused_once_it_is_loaded(
    images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of the Hub are."""
    base = open_pipeline(inpainting(tiny_pipeline(in_channels=9)), name="org/model")

    def load(*_: object, **__: object) -> StableDiffusion:
        return base

    monkeypatch.setattr(trainable, "load_base", load)
    with pytest.raises(BaseError, match='"org/model" is an inpainting model'):
        fit(short(images, out, base="org/model"))


def test_float16_is_refused(images: Path, out: Path) -> None:
    base = StableDiffusion(tiny_pipeline(), dtype=torch.float16)
    with pytest.raises(BaseError, match="gradients underflow"):
        fit(short(images, out), base=base)
