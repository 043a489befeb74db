"""Pictures that start from pictures: image to image, inpainting, and the hires pass."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import (
    StableDiffusionImg2ImgPipeline,
)
from PIL import Image, ImageDraw

from lorastyle.bases import StableDiffusion
from lorastyle.errors import ConfigError, PictureError
from lorastyle.generate import (
    SCHEDULERS,
    Engine,
    GenerateRequest,
    Picture,
    portable_request,
    read_request,
    read_settings,
    save_picture,
)
from lorastyle.generate.canvas import load_canvas, picture_size
from lorastyle.generate.sampling import Start, denoise, steps_taken
from lorastyle.generate.schedulers import build_scheduler
from tests.tiny import tiny_pipeline

REQUEST = GenerateRequest("a cat", negative_prompt="rain", seed=7, steps=6)


def pixels(picture: Picture) -> npt.NDArray[Any]:
    return np.asarray(picture.image).astype(int)


@pytest.fixture
def mask(tmp_path: Path) -> str:
    picture = Image.new("L", (64, 64), 0)
    ImageDraw.Draw(picture).rectangle((32, 0, 63, 63), fill=255)
    picture.save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm++ 2m", "euler a"])
def test_image_to_image_is_what_the_pipeline_draws(
    base: StableDiffusion, engine: Engine, init: str, scheduler: str
) -> None:
    ours = engine.generate(replace(REQUEST, init=init, strength=0.5, scheduler=scheduler))[0]
    parts = {**base.pipe.components, "scheduler": build_scheduler(scheduler, base.pipe.scheduler)}
    pipe: Any = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    canvas = load_canvas(replace(REQUEST, init=init, width=64, height=64))
    assert canvas is not None
    theirs = pipe(
        "a cat",
        negative_prompt="rain",
        image=canvas.start(base, 0.5).latents,
        strength=0.5,
        num_inference_steps=6,
        guidance_scale=5.0,
        generator=[torch.Generator().manual_seed(7)],
        output_type="np",
    ).images[0]
    assert np.abs(pixels(ours) - theirs * 255).max() <= 1
    weaker = engine.generate(replace(REQUEST, init=init, strength=0.2, scheduler=scheduler))[0]
    assert np.abs(pixels(ours) - pixels(weaker)).max() > 5


def test_all_of_the_strength_leaves_nothing_of_the_picture(engine: Engine, init: str) -> None:
    plain = engine.generate(REQUEST)[0]
    assert np.array_equal(
        pixels(engine.generate(replace(REQUEST, init=init, strength=1.0))[0]), pixels(plain)
    )
    assert not np.array_equal(pixels(engine.generate(replace(REQUEST, init=init))[0]), pixels(plain))


def test_what_the_mask_leaves_out_stays_pixel_by_pixel(engine: Engine, init: str, mask: str) -> None:
    request = replace(REQUEST, init=init, mask=mask, strength=0.9, number=2)
    before = np.asarray(Image.open(init)).astype(int)
    for picture in engine.generate(request):
        assert np.array_equal(pixels(picture)[:, :32], before[:, :32])
        assert np.abs(pixels(picture)[:, 40:] - before[:, 40:]).mean() > 5
    whole = engine.generate(replace(request, mask=None))[0]
    assert not np.array_equal(pixels(whole)[:, :32], before[:, :32])


def test_masked_latents_are_the_pictures_own_at_the_end(base: StableDiffusion) -> None:
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    words = base.read(["a cat"], [""])
    for name in SCHEDULERS:
        drawn = denoise(
            base,
            *words,
            build_scheduler(name, base.pipe.scheduler),
            [torch.Generator().manual_seed(3)],
            (64, 64),
            steps=4,
            guidance=3.0,
            start=Start(picture, 0.8, mask),
        )
        assert torch.equal(drawn[..., :4], picture[..., :4]), name
        assert (drawn[..., 4:] - picture[..., 4:]).abs().max() > 0.1, name


def test_the_hires_pass_draws_larger_and_keeps_what_there_is(engine: Engine) -> None:
    plain = engine.generate(REQUEST)[0]
    seen: list[tuple[int, int]] = []
    large = engine.generate(
        replace(REQUEST, hires=2, hires_strength=0.34), on_step=lambda done, total: seen.append((done, total))
    )[0]
    assert large.image.size == (128, 128)
    assert seen == [(i, 8) for i in range(1, 9)]
    for name in ("heun", "pndm"):
        seen.clear()
        engine.generate(
            replace(REQUEST, hires=2, scheduler=name), on_step=lambda done, total: seen.append((done, total))
        )
        assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1)), name
    shrunk = np.asarray(large.image.resize((64, 64), Image.Resampling.BOX)).astype(int)
    fresh = engine.generate(replace(REQUEST, width=128, height=128))[0]
    other = np.asarray(fresh.image.resize((64, 64), Image.Resampling.BOX)).astype(int)
    assert np.abs(shrunk - pixels(plain)).mean() < np.abs(other - pixels(plain)).mean()


def test_the_request_is_in_the_picture_and_draws_it_again(engine: Engine, init: str, tmp_path: Path) -> None:
    first = engine.generate(replace(REQUEST, init=init, strength=0.4, hires=1.5))[0]
    path = save_picture(first, tmp_path / "a.png")
    recorded = read_request(path)
    assert recorded == portable_request(first.request) and recorded.init == Path(init).name != init
    request, remarks = read_settings(path, base=engine.base.name)  # it lies beside the picture
    assert request == first.request and remarks == []
    assert np.array_equal(pixels(engine.generate(request)[0]), pixels(first))


def test_every_picture_of_a_batch_starts_from_the_same_one(engine: Engine, init: str) -> None:
    request = replace(REQUEST, init=init, number=3)
    together = engine.generate(request)
    alone = engine.generate(replace(request, seed=8, number=1))[0]
    assert np.abs(pixels(together[1]) - pixels(alone)).max() <= 2
    assert np.abs(pixels(together[0]) - pixels(alone)).max() > 2


def test_its_shape_is_kept_where_no_size_is_asked_for(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200)).save(tmp_path / "wide.png")
    wide = replace(REQUEST, init=str(tmp_path / "wide.png"))
    assert picture_size(wide, 64) == (96, 64)
    assert picture_size(REQUEST, 64) == (64, 64)
    turned = Image.new("RGB", (300, 200))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert picture_size(replace(REQUEST, init=str(tmp_path / "turned.jpg")), 64) == (64, 96)


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({}, (96, 64)),
        ({"width": 48}, (48, 32)),
        ({"height": 128}, (192, 128)),
        ({"width": 48, "height": 48}, (48, 48)),
    ],
)
def test_one_side_follows_the_other_in_the_pictures_shape(
    tmp_path: Path, asked: dict[str, int], size: tuple[int, int]
) -> None:
    Image.new("RGB", (300, 200)).save(tmp_path / "wide.png")
    request = GenerateRequest("a cat", init=str(tmp_path / "wide.png"), **asked)  # type: ignore[arg-type]
    assert picture_size(request, 64) == size
    alone = GenerateRequest("a cat", **asked)  # type: ignore[arg-type]
    assert picture_size(alone, 64) == (asked.get("width", 64), asked.get("height", 64))


def test_a_mask_may_be_drawn_by_transparency(tmp_path: Path, init: str) -> None:
    layer = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    ImageDraw.Draw(layer).rectangle((0, 0, 31, 63), fill=(0, 0, 0, 255))
    layer.save(tmp_path / "layer.png")
    request = replace(REQUEST, init=init, mask=str(tmp_path / "layer.png"), width=64, height=64)
    canvas = load_canvas(request)
    assert canvas is not None and canvas.mask is not None
    assert canvas.mask.getpixel((5, 5)) == 255 and canvas.mask.getpixel((60, 5)) == 0


def test_transparent_pictures_lie_on_white(tmp_path: Path) -> None:
    layer = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    layer.putpixel((60, 60), (0, 0, 0, 255))
    layer.save(tmp_path / "clear.png")
    canvas = load_canvas(replace(REQUEST, init=str(tmp_path / "clear.png"), width=64, height=64))
    assert canvas is not None and canvas.picture.getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mask": "m.png"}, "mask is given without init"),
        ({"init": "a.png", "strength": 0}, "strength is 0; a number above 0"),
        ({"init": "a.png", "strength": 0.01}, "not one is taken"),
        ({"hires": 9}, "hires is 9; a number from 1"),
        ({"strength": 0.3}, "strength is given without init"),
        ({"hires_strength": 0.3}, "hires_strength is given without hires"),
        ({"init": "a.png", "init_hash": "xyz"}, "init_hash is 'xyz'; 12 hex"),
        ({"hires": 2, "hires_strength": 0.001}, "not one is taken"),
        ({"init": "a.png", "steps": 1}, "strength is 0.6 of 1 steps"),
        ({"hires": 2, "steps": 2}, "hires_strength is 0.4 of 2 steps"),
        ({"init": ""}, "path of a picture"),
        ({"init": "a\0b"}, "path of a picture"),
    ],
)
def test_values_that_cannot_be(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GenerateRequest("a", **values)


def test_files_that_cannot_be(engine: Engine, tmp_path: Path, init: str) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(Path(init).read_bytes()[:80])
    Image.new("L", (64, 64), 0).save(tmp_path / "black.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name, said in (
        ("absent.png", "no such"),
        ("text.png", "cannot be read"),
        ("cut.png", "damaged or cut off"),
        ("pipe.png", "not an ordinary file"),
    ):
        with pytest.raises(PictureError, match=said):
            engine.generate(replace(REQUEST, init=str(tmp_path / name)))
    with pytest.raises(PictureError, match="all black"):
        engine.generate(replace(REQUEST, init=init, mask=str(tmp_path / "black.png")))


def test_pictures_are_read_as_in_training(tmp_path: Path) -> None:
    """Damaged EXIF is no reason to lose a picture, and 16 bits are made 8, not cut off."""
    levels = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    Image.fromarray(levels).save(tmp_path / "deep.png")
    request = replace(REQUEST, init=str(tmp_path / "deep.png"), width=64, height=64)
    canvas = load_canvas(request)
    assert canvas is not None
    row = np.asarray(canvas.picture)[32, ::16, 0].astype(int)
    assert np.abs(row - levels[0, ::16] / 257).max() <= 2 and np.ptp(row) > 150
    Image.new("RGB", (64, 64), "red").save(tmp_path / "odd.jpg", exif=b"Exif\0\0garbage-garbage")
    canvas = load_canvas(replace(request, init=str(tmp_path / "odd.jpg")))
    assert canvas is not None and canvas.picture.getpixel((3, 3))[0] > 250  # type: ignore[index]


def test_another_file_under_the_recorded_name_is_told(engine: Engine, init: str, mask: str) -> None:
    drawn = engine.generate(replace(REQUEST, init=init, mask=mask))[0].request
    assert drawn.strength == 0.6 and drawn.init_hash is not None and drawn.mask_hash is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.generate(drawn)
    Image.new("RGB", (64, 64), "red").save(init)
    with pytest.warns(UserWarning, match=rf"init.png\" is .* was made with {drawn.init_hash}"):
        engine.generate(drawn)


class Oracle:
    """Knows the noise, or the velocity, that lies on one picture."""

    def __init__(self, base: StableDiffusion, picture: torch.Tensor) -> None:
        self.alphas, self.picture, self.v = base.alphas_cumprod, picture, base.prediction_type != "epsilon"

    def predict(self, x: torch.Tensor, t: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        a = self.alphas.double()[t.round().long()].view(-1, 1, 1, 1)
        noise = (x - a.sqrt() * self.picture) / (1 - a).sqrt()
        return (a.sqrt() * noise - (1 - a).sqrt() * self.picture if self.v else noise).float()


@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "dpm++ 2m", "dpm++ 2m karras", "unipc", "pndm"])
@pytest.mark.parametrize("strength", [0.2, 0.6, 1.0])
def test_no_noise_is_left_of_a_model_that_knows_it(
    monkeypatch: pytest.MonkeyPatch, name: str, strength: float
) -> None:
    """Whatever the scheduler and wherever it begins; a wrong timestep would leave some."""
    pipe = tiny_pipeline(prediction_type="epsilon")
    pipe.scheduler.register_to_config(set_alpha_to_one=True, timestep_spacing="leading")
    base = StableDiffusion(pipe, dtype=torch.float32)
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.5
    oracle = Oracle(base, picture)

    monkeypatch.setattr(base, "predict", oracle.predict)
    drawn = denoise(
        base,
        *base.read(["a"], [""]),
        build_scheduler(name, base.pipe.scheduler),
        [torch.Generator().manual_seed(2)],
        (64, 64),
        steps=20,
        guidance=1.0,
        start=Start(picture, strength),
    )
    assert float((drawn - picture).std()) < 1e-3


def test_steps_taken() -> None:
    assert [steps_taken(10, s) for s in (1.0, 0.7, 0.55, 0.05)] == [10, 7, 5, 0]
