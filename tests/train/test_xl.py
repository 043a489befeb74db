"""SDXL through the same `fit` and engine, on a tiny pipeline of its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lorastyle.adapters import read_header, read_info
from lorastyle.bases import PromptEmbeds, StableDiffusion, open_pipeline
from lorastyle.errors import BaseMismatchError
from lorastyle.generate import AdapterUse, Engine, GenerateRequest
from lorastyle.train import fit, make_plan, scan
from lorastyle.train.pictures import framing
from tests.tiny import tiny_xl_pipeline
from tests.train.running import short, tiny_base

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return open_pipeline(tiny_xl_pipeline(), name="tiny-xl", family="sdxl", dtype=torch.float32)


def difference(a: Image.Image, b: Image.Image) -> int:
    return int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max())


def test_train_reload_and_draw(base: StableDiffusion, images: Path, out: Path) -> None:
    fit(short(images, out, steps=6, lr=5e-2, text_encoder_lr=5e-2), base=base)
    info = read_info(out)
    assert info.family == "sdxl"
    assert set(info.components) == {"unet", "text_encoder", "text_encoder_2"}
    names = read_header(out).tensors
    assert any(n.startswith("lora_te1_") for n in names) and any(n.startswith("lora_te2_") for n in names)
    engine = Engine(base)
    try:
        request = GenerateRequest("an ink cat", seed=3, steps=3)
        plain = engine.generate(request)[0].image
        drawn = engine.generate(
            GenerateRequest("an ink cat", seed=3, steps=3, adapters=(AdapterUse(str(out)),))
        )
        again = engine.generate(
            GenerateRequest("an ink cat", seed=3, steps=3, adapters=(AdapterUse(str(out)),))
        )
        off = engine.generate(
            GenerateRequest("an ink cat", seed=3, steps=3, adapters=(AdapterUse(str(out), 0),))
        )
    finally:
        engine.bank.detach()
    assert difference(plain, drawn[0].image) > 0
    assert difference(again[0].image, drawn[0].image) == difference(plain, off[0].image) == 0


def test_the_engine_draws_what_the_pipeline_draws(base: StableDiffusion) -> None:
    engine = Engine(base)
    try:
        ours = engine.generate(GenerateRequest("a cat", seed=5, steps=3, guidance=4))[0].image
        wide = engine.generate(GenerateRequest("a cat", seed=5, steps=3, guidance=4, width=96))[0].image
    finally:
        engine.bank.detach()
    with torch.no_grad():
        theirs = base.pipe(
            "a cat",
            num_inference_steps=3,
            guidance_scale=4,
            latents=torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5)),
            height=64,
            width=64,
        ).images[0]
        other = base.pipe("a dog", num_inference_steps=3, guidance_scale=4, height=64, width=64).images[0]
    assert difference(ours, theirs) <= 1 < difference(ours, other)
    assert wide.size == (96, 64)


def test_each_picture_has_its_own_time_ids(
    base: StableDiffusion, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Class pictures too: they are whole, whatever was cropped from the pictures trained on."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (200, 100), "red").save(folder / "wide.png")
    Image.new("RGB", (100, 300), "blue").save(folder / "tall.png")
    seen: list[Tensor] = []
    predict = base.predict

    def watched(
        noisy: Tensor, t: Tensor, words: PromptEmbeds, time_ids: Tensor | None = None, **more: Any
    ) -> Tensor:
        if time_ids is not None:
            seen.append(time_ids)
        return predict(noisy, t, words, time_ids, **more)

    monkeypatch.setattr(base, "predict", watched)
    fit(
        short(
            folder, out, steps=2, batch_size=2, class_name="ball", prior=1.0, prior_images=2, kind="subject"
        ),
        base=base,
    )
    told = {tuple(row) for ids in seen for row in ids.tolist()}
    assert told == {
        (100.0, 200.0, 0.0, 32.0, 64.0, 64.0),
        (300.0, 100.0, 64.0, 0.0, 64.0, 64.0),
        (64.0, 64.0, 0.0, 0.0, 64.0, 64.0),
    }


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1024, 1024), (1024, 1024, 0, 0, 1024, 1024)),
        ((2048, 1536), (1536, 2048, 0, 170, 1024, 1024)),
        ((500, 400), (400, 500, 0, 128, 1024, 1024)),
    ],
)
def test_framing(size: tuple[int, int], expected: tuple[float, ...]) -> None:
    assert framing(size, 1024) == expected


def test_recipe_of_the_family(base: StableDiffusion, images: Path, out: Path) -> None:
    config = short(images, out, rank=None, targets=None, lr=None)
    plan = make_plan(config, base, scan(config))
    assert set(plan.targets) == {"unet"}
    both = make_plan(short(images, out, text_encoder_lr=1e-5), base, scan(config))
    assert set(both.targets) == {"unet", "text_encoder", "text_encoder_2"}


def test_an_adapter_of_another_family_is_refused(base: StableDiffusion, images: Path, out: Path) -> None:
    fit(short(images, out), base=tiny_base())
    engine = Engine(base)
    try:
        with pytest.raises(BaseMismatchError, match=r'made for .* the base "tiny-xl" is Stable Diffusion XL'):
            engine.generate(GenerateRequest("a cat", adapters=(AdapterUse(str(out)),), steps=2))
    finally:
        engine.bank.detach()
