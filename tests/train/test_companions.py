"""Masks, control images and previews beside images are not trained on, and captions say what prompts say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from lorastyle.bases import StableDiffusion, as_prompt, load_base, plain_text
from lorastyle.train import scan

SIZE = (32, 32)


def image(path: Path, colour: object = (200, 40, 10), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, SIZE, colour).save(path)  # pyright: ignore[reportArgumentType]


def used(folder: Path) -> set[str]:
    return {sample.name for sample in scan(folder).used}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a-masklabel.png", "mask of a.png"),
        ("A-MaskLabel.PNG", "mask of a.png"),
        ("a-condlabel.png", "control image of a.png"),
        ("a_mask.png", "mask of a.png"),
        ("a.mask.jpg", "mask of a.png"),
        ("masks/a.png", "mask of a.png"),
        ("a_depth.png", "control image of a.png"),
        ("conditioning/a.png", "control image of a.png"),
    ],
)
def test_what_belongs_to_another_image_is_a_side_file(tmp_path: Path, name: str, what: str) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / name, 255, "L")
    found = scan(tmp_path)
    assert [sample.name for sample in found.used] == ["a.png"]
    assert {side.name: side.what for side in found.side} == {name: f"{what}, not used"}
    assert any("not used: lorastyle trains on whole images" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("face mask.png", (255, 255, 255)),  # a space: the picture of a face mask
        ("a_mask.png", (10, 200, 90)),  # colours: a cat with a mask on
        ("b-masklabel.png", (255, 255, 255)),  # there is no b
        ("unmask.png", (255, 255, 255)),
        ("masks/c.png", (255, 255, 255)),
    ],
)
def test_what_only_looks_like_one_is_an_image(
    tmp_path: Path, name: str, colour: tuple[int, int, int]
) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "face.png", (1, 2, 3))
    image(tmp_path / name, colour)
    assert used(tmp_path) == {"a.png", "face.png", name}


def test_previews_of_adapters_are_no_training_images(tmp_path: Path) -> None:
    for i, name in enumerate(("cat.png", "cat.preview.png", "dog.png")):
        image(tmp_path / name, (i, 9, 9))
    (tmp_path / "cat.safetensors").write_bytes(b"x")
    assert used(tmp_path) == {"dog.png"}
    (tmp_path / "cat.safetensors").unlink()
    assert used(tmp_path) == {"cat.png", "cat.preview.png", "dog.png"}


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        (r"hero \(one series\)", "hero (one series)"),
        ("hero (one series)", "hero (one series)"),
        (r"a \[tag\] \: \| \\", "a [tag] : | " + "\\"),
        (r"shrug \_ and \n", r"shrug \_ and \n"),
        ("", ""),
    ],
)
def test_a_caption_is_read_without_its_backslashes(tmp_path: Path, written: str, plain: str) -> None:
    assert plain_text(written) == plain
    assert plain_text(as_prompt(plain)) == plain
    image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(f"x {written}")
    assert scan(tmp_path).used[0].caption.text == f"x {plain}".strip()


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return load_base("embedded")


@pytest.mark.parametrize("caption", [r"hero \(one series\)", "hero (one series)", "a [b] c", "3:4 | 5"])
def test_training_and_generating_read_the_same(base: StableDiffusion, caption: str) -> None:
    said = plain_text(caption)
    with torch.no_grad():
        trained = base.encode_prompts([said]).tokens
        generated = base.read([as_prompt(said)], [""])[0].tokens
        weighted = base.read(["hero (one series)"], [""])[0].tokens
    assert torch.equal(trained, generated)
    assert not torch.allclose(trained, weighted, atol=1e-2)
