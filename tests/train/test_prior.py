"""Class pictures are drawn when absent, and never taken from another prompt or model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops

from lorastyle.bases import StableDiffusion
from lorastyle.train import draw as draw_module
from lorastyle.train import prior
from tests.tiny import tiny_pipeline


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> StableDiffusion:
    monkeypatch.setattr(draw_module, "STEPS", 2)
    return StableDiffusion(tiny_pipeline(), dtype=torch.float32)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of `draw` was asked for."""
    counts: list[int] = []
    real = prior.draw

    def counting(
        base: StableDiffusion, prompts: list[str], seeds: list[int], **settings: Any
    ) -> list[Image.Image]:
        counts.append(len(prompts))
        return real(base, prompts, seeds, **settings)

    monkeypatch.setattr(prior, "draw", counting)
    return counts


def test_drawn_once_and_topped_up(base: StableDiffusion, drawn: list[int], tmp_path: Path) -> None:
    three = prior.class_images(base, "a face", 3, resolution=64, folder=tmp_path)
    assert drawn == [3] and [file.suffix for file in three] == [".png"] * 3
    first = [file.read_bytes() for file in three]
    five = prior.class_images(base, "a face", 5, resolution=64, folder=tmp_path)
    assert drawn == [3, 2] and five[:3] == three
    assert [file.read_bytes() for file in three] == first
    assert len({file.read_bytes() for file in five}) == 5, "each has its own seed"
    assert prior.class_images(base, "a face", 2, resolution=64, folder=tmp_path) == three[:2]
    assert drawn == [3, 2]


def test_another_layer_of_the_text_encoder_draws_its_own(
    base: StableDiffusion, drawn: list[int], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"resolution": 64, "folder": tmp_path}
    last = prior.class_images(base, "a face", 1, **options)
    before = prior.class_images(base, "a face", 1, clip_skip=2, **options)
    assert last != before and drawn == [1, 1]
    assert last[0].read_bytes() != before[0].read_bytes()


def test_pictures_do_not_depend_on_how_long_their_neighbours_prompts_are(base: StableDiffusion) -> None:
    alone = draw_module.draw(base, ["a cat"], [1])[0]
    beside = draw_module.draw(base, ["a cat", "a " * 40], [1, 2])
    assert beside[0].tobytes() == alone.tobytes() != beside[1].tobytes()


def test_another_prompt_or_model_draws_its_own(
    base: StableDiffusion, drawn: list[int], tmp_path: Path
) -> None:
    face = prior.class_images(base, "a face", 1, resolution=64, folder=tmp_path)
    hat = prior.class_images(base, "a hat", 1, resolution=64, folder=tmp_path)
    assert face != hat and drawn == [1, 1]
    with torch.no_grad():
        next(iter(base.pipe.unet.parameters())).flatten()[0] += 1e-3
    assert prior.class_images(base, "a face", 1, resolution=64, folder=tmp_path) != face
    assert drawn == [1, 1, 1]


def test_strays_do_not_count_and_broken_ones_are_drawn_again(
    base: StableDiffusion, drawn: list[int], tmp_path: Path
) -> None:
    files = prior.class_images(base, "a face", 2, resolution=64, folder=tmp_path)
    Image.new("RGB", (64, 64)).save(files[0].with_name("holiday.png"))
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[: len(whole) // 2])
    assert prior.class_images(base, "a face", 2, resolution=64, folder=tmp_path) == files
    assert drawn == [2, 1]
    files[0].with_name("whole.png").write_bytes(whole)
    with Image.open(files[1]) as again, Image.open(files[0].with_name("whole.png")) as before:
        extrema = ImageChops.difference(again, before).getextrema()
        assert max(high for _, high in extrema) <= 1  # type: ignore[misc]  # another batch size rounds otherwise
