"""The sheet shows what it says, and drawing depends on seeds alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

from lorastyle.bases import StableDiffusion
from lorastyle.pictures.paper import WHITE
from lorastyle.train import PlanReady, Preparing, Warned, fit
from lorastyle.train.draw import draw
from lorastyle.train.sheet import MARGIN, Pair, make_sheet
from tests.tiny import tiny_pipeline
from tests.train.running import listener, short


def pair(prompt: str = "a cat, ink style") -> Pair:
    return Pair(prompt, Image.new("RGB", (128, 128), "red"), Image.new("RGB", (128, 128), "blue"))


def pixels_of(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """The box that holds every pixel of exactly this colour."""
    other = ImageChops.difference(sheet, Image.new("RGB", sheet.size, colour))
    r, g, b = other.split()
    exact = [255] + [0] * 255
    return ImageChops.lighter(ImageChops.lighter(r, g), b).point(exact).getbbox()


@pytest.mark.parametrize("count", [1, 3, 4, 6, 8, 9])
def test_without_is_left_and_with_is_right(count: int) -> None:
    sheet = make_sheet([pair()] * count, "ink", "400 steps")
    red, blue = pixels_of(sheet, (255, 0, 0)), pixels_of(sheet, (0, 0, 255))
    assert red is not None and blue is not None
    assert red[0] < blue[0] and red[2] < blue[2] and red[1] == blue[1]


def test_margins_are_white() -> None:
    sheet = make_sheet([pair("a very long prompt " * 20)] * 4, "a long title " * 30, "steps " * 100)
    width, height = sheet.size
    for box in (
        (0, 0, MARGIN, height),
        (width - MARGIN, 0, width, height),
        (0, height - MARGIN // 2, width, height),
        (0, 0, width, MARGIN // 2),
    ):
        assert sheet.crop(box).getcolors() == [((box[2] - box[0]) * (box[3] - box[1]), (255, 255, 255))], box
    assert WHITE == "#ffffff"


def test_the_prompt_is_written_under_its_pair() -> None:
    one, other = make_sheet([pair("a cat")], "ink", ""), make_sheet([pair("a dog")], "ink", "")
    box = ImageChops.difference(one, other).getbbox()
    red = pixels_of(one, (255, 0, 0))
    assert box is not None and red is not None and box[1] > red[3] - 3


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), dtype=torch.float32)


def test_a_picture_depends_on_its_prompt_and_seed_not_on_its_batch(base: StableDiffusion) -> None:
    before = torch.get_rng_state()
    alone = draw(base, ["a cat"], [5], steps=4)[0]
    batched = draw(base, ["a dog", "a cat", "a cat"], [4, 5, 6], steps=4, batch=3)
    difference = ImageChops.difference(alone, batched[1]).getextrema()
    assert max(high for _, high in difference) <= 1  # type: ignore[misc]
    assert batched[1].tobytes() != batched[2].tobytes()
    assert alone.size == (64, 64) and alone.mode == "RGB"
    assert torch.equal(torch.get_rng_state(), before)


def test_drawing_can_end_early(base: StableDiffusion) -> None:
    def stop(done: int) -> bool:
        return False

    pictures = draw(base, ["a"] * 4, range(4), steps=2, batch=2, keep_going=stop)
    assert len(pictures) == 2


@pytest.mark.usefixtures("quick")
def test_stopping_in_the_sheet_leaves_the_sheet_out(base: StableDiffusion, images: Path, out: Path) -> None:
    events: list[object] = []

    def stop(event: object) -> None:
        if isinstance(event, Preparing) and event.what == "drawing the sheet":
            raise KeyboardInterrupt

    result = fit(short(images, out), base=base, on_event=listener(events, stop))
    assert result.sheet is None and not result.interrupted and result.steps == 4
    assert out.exists() and not out.with_suffix(".sheet.png").exists()
    drawn = [event.done for event in events if isinstance(event, Preparing) and "sheet" in event.what]
    prompts = next(len(event.plan.sample_prompts) for event in events if isinstance(event, PlanReady))
    assert max(drawn) <= prompts  # none of those with the adapter
    (warning,) = [event.text for event in events if isinstance(event, Warned)]
    assert "ink.safetensors is finished" in warning and warning.endswith("--resume")

    again = fit(short(images, out), base=base, resume=True)
    assert again.sheet is not None and again.sheet.exists()
