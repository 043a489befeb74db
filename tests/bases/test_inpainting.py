"""Bases whose UNet reads a mask and the masked picture: told from their shapes, in every family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lorastyle.bases import Peeked, StableDiffusion, load_base, open_pipeline, peek_base
from lorastyle.bases.single_file.prediction import asked
from lorastyle.errors import BaseError
from tests.original import differing, made, weights, write_original
from tests.tiny import inpainting, tiny_pipeline, tiny_xl_pipeline, watched

FAMILIES = ("sd1", "sd2", "sdxl")
V = {"modelspec.prediction_type": "v"}
CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_is_its_folder(tmp_path: Path, family: str) -> None:
    pipe = made(family, 9)
    file = write_original(pipe, tmp_path / "x.safetensors", metadata=V)
    pipe.save_pretrained(tmp_path / "folder")
    one, other = load_base(str(file), device="cpu"), load_base(str(tmp_path / "folder"), device="cpu")
    for base in (one, other):
        assert base.inpainting and base.pipe.unet.config.in_channels == 9
        assert type(base.pipe) is type(pipe) and "Inpaint" in type(pipe).__name__
        assert differing(weights(base.pipe), weights(pipe)) == set()
    assert type(one) is type(other) and one.family == other.family
    assert one.inpainting_strength == (0.99 if family == "sdxl" else 1.0)


@pytest.mark.parametrize("channels", [4, 9])
def test_it_is_known_without_loading(tmp_path: Path, channels: int) -> None:
    for family, width in {"sd1": 64, "sd2": 64, "sdxl": 192}.items():
        file = write_original(made(family, channels), tmp_path / f"{family}.safetensors")
        assert peek_base(str(file)) == Peeked(f"sd-{width}", inpainting=channels == 9)
    made("sdxl", channels).save_pretrained(tmp_path / "folder")
    assert peek_base(str(tmp_path / "folder")) == Peeked("sd-192", inpainting=channels == 9)


def test_the_channels_tell_and_not_the_class(tmp_path: Path) -> None:
    inpainting(tiny_pipeline()).save_pretrained(tmp_path / "four")
    tiny_pipeline(in_channels=9).save_pretrained(tmp_path / "nine")
    four, nine = (load_base(str(tmp_path / name), device="cpu") for name in ("four", "nine"))
    assert (four.inpainting, type(four.pipe).__name__) == (False, "StableDiffusionInpaintPipeline")
    assert (nine.inpainting, type(nine.pipe).__name__) == (True, "StableDiffusionPipeline")
    assert open_pipeline(inpainting(tiny_xl_pipeline(in_channels=9))).inpainting


@pytest.mark.parametrize(
    ("channels", "what"),
    [
        (8, r"an editing model \(InstructPix2Pix\).*8 input channels"),
        (5, "a depth-to-image model.*5 input channels"),
        (7, "an upscaler.*7 input channels"),
        (6, "a UNet with 6 input channels"),
    ],
)
def test_what_reads_something_else_is_told(tmp_path: Path, channels: int, what: str) -> None:
    step = rf"{what}, where 4 \(text to image\) and 9 \(inpainting\) are known.*inpainting sibling"
    file = write_original(
        made("sd1"), tmp_path / "x.safetensors", change={CONV_IN: torch.zeros(32, channels, 3, 3)}
    )
    tiny_pipeline(in_channels=channels).save_pretrained(tmp_path / "folder")
    for name in (file, tmp_path / "folder"):
        for look in (load_base, peek_base):
            with pytest.raises(BaseError, match=step):
                look(str(name))
    with pytest.raises(BaseError, match=step):
        StableDiffusion(tiny_pipeline(in_channels=channels))


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("StableDiffusionInstructPix2PixPipeline", "an editing model"),
        ("StableDiffusionXLInstructPix2PixPipeline", "an editing model"),
        ("StableDiffusionDepth2ImgPipeline", "a depth-to-image model"),
        ("StableDiffusionUpscalePipeline", "an upscaler"),
    ],
)
def test_a_folder_of_theirs_is_told(copy: Path, kind: str, what: str) -> None:
    index = copy / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": kind}))
    with pytest.raises(BaseError, match=rf"is {what}.*\({kind}\)\. .*choose"):
        load_base(str(copy))


def test_channels_that_are_no_number(copy: Path) -> None:
    config = copy / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "in_channels": "nine"}))
    with pytest.raises(BaseError, match="in_channels is 'nine'"):
        peek_base(str(copy))


def test_the_mask_and_the_masked_picture_in_their_order() -> None:
    base = open_pipeline(inpainting(tiny_pipeline(in_channels=9)), dtype=torch.float32)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 24:] = 0.5
    mask[..., :8] = 0.49
    concat = base.inpaint_concat(pixels, mask)
    assert concat.shape == (1, 5, 8, 8)
    assert not concat[:, 0, :, :3].any() and bool((concat[:, 0, :, 3:] == 1).all())
    grey = pixels.clone()
    grey[..., 24:] = 0
    torch.testing.assert_close(concat[:, 1:], base.latents(base.encode_images(grey), torch.zeros(1, 4, 8, 8)))
    other = base.latents(base.encode_images(pixels), torch.zeros(1, 4, 8, 8))
    assert (concat[:, 1:] - other).abs().max() > 1e-3
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), watched(base.pipe.unet) as seen:
        base.predict(noisy, torch.tensor([5, 5]), base.encode_prompts(["a", "b"]), concat=concat)
    assert torch.equal(seen[0], torch.cat([noisy, concat.expand(2, -1, -1, -1)], 1))


def test_a_spot_between_the_cells_is_not_lost() -> None:
    base = open_pipeline(inpainting(tiny_pipeline(in_channels=9)), dtype=torch.float32)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 17:20, 34:36] = 1
    on_grid = base.inpaint_concat(torch.zeros(1, 3, 64, 64), mask)[:, 0]
    assert on_grid.sum() == 1 and on_grid[0, 2, 4] == 1
    assert not base.inpaint_concat(torch.zeros(1, 3, 64, 64), torch.zeros_like(mask))[:, 0].any()


def test_a_unet_is_asked_with_everything_masked() -> None:
    """Its prediction type, where the file does not say it."""
    pipe: Any = made("sd2", 9)
    with watched(pipe.unet) as seen:
        asked(pipe)
    assert seen[0].shape == (1, 9, 32, 32)
    assert bool((seen[0][:, 4] == 1).all()) and not seen[0][:, 5:].any()
    assert float(seen[0][:, :4].std()) == pytest.approx(1, abs=0.05)
