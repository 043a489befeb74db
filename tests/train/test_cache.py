"""Moments and embeddings are made once, and made again when anything they depend on changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from lorastyle.bases import PromptEmbeds, StableDiffusion
from lorastyle.train.cache import LatentCache, PromptEncoder
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), dtype=torch.float32)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (64, 64), "red").save(path)
    return path


def pixels(value: float = 0.5) -> Tensor:
    return torch.full((3, 64, 64), value)


def moments(base: StableDiffusion, folder: Path, picture: Path, transform: str = "64") -> tuple[Tensor, bool]:
    """The moments, and whether they were made now."""
    cache = LatentCache(base, folder)
    found = cache.moments(picture, transform, pixels)
    assert cache.made + cache.reused == 1
    return found, cache.made == 1


def test_the_second_time_it_is_read(base: StableDiffusion, tmp_path: Path, picture: Path) -> None:
    first, made = moments(base, tmp_path, picture)
    assert made and first.shape == (8, 8, 8) and first.dtype == torch.float32
    second, made = moments(base, tmp_path, picture)
    assert not made and torch.equal(first, second)
    assert torch.equal(first, base.encode_images(pixels()[None])[0])
    assert not list(tmp_path.rglob("*.tmp*"))


def test_a_renamed_picture_is_the_same_picture(base: StableDiffusion, tmp_path: Path, picture: Path) -> None:
    moments(base, tmp_path, picture)
    assert moments(base, tmp_path, picture.rename(tmp_path / "other.png"))[1] is False


def test_an_edited_picture_is_another(base: StableDiffusion, tmp_path: Path, picture: Path) -> None:
    moments(base, tmp_path, picture)
    Image.new("RGB", (64, 64), "blue").save(picture)
    assert moments(base, tmp_path, picture)[1]


def test_another_crop_is_another(base: StableDiffusion, tmp_path: Path, picture: Path) -> None:
    moments(base, tmp_path, picture, "64")
    assert moments(base, tmp_path, picture, "64 on black")[1]


def test_another_autoencoder_is_another(base: StableDiffusion, tmp_path: Path, picture: Path) -> None:
    moments(base, tmp_path, picture)
    other = StableDiffusion(tiny_pipeline(), dtype=torch.float32)
    assert moments(other, tmp_path, picture)[1] is False, "the same weights loaded twice are the same"
    with torch.no_grad():
        next(iter(other.pipe.vae.parameters())).flatten()[0] += 1e-3
    assert moments(other, tmp_path, picture)[1]


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped"])
def test_a_damaged_entry_is_made_again(
    base: StableDiffusion, tmp_path: Path, picture: Path, damage: str
) -> None:
    whole, _ = moments(base, tmp_path, picture)
    (entry,) = tmp_path.rglob("*.safetensors")
    data = entry.read_bytes()
    broken = {"truncated": data[:-9], "empty": b"", "flipped": data[:-1] + bytes([data[-1] ^ 1])}[damage]
    entry.write_bytes(broken)
    again, made = moments(base, tmp_path, picture)
    assert made and torch.equal(whole, again)
    assert entry.read_bytes() == data


def test_a_cache_that_cannot_be_written_costs_only_speed(
    base: StableDiffusion, tmp_path: Path, picture: Path
) -> None:
    (tmp_path / "latents").write_text("a file where the folder should be")
    cache = LatentCache(base, tmp_path)
    assert cache.moments(picture, "64", pixels).isfinite().all()
    assert cache.unwritable is not None and "latents" in cache.unwritable


def test_prompts_are_encoded_once(base: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    encode = base.encode_prompts

    def counting(prompts: list[str], **options: int) -> PromptEmbeds:
        asked.extend(prompts)
        return encode(prompts, **options)

    monkeypatch.setattr(base, "encode_prompts", counting)
    encoder = PromptEncoder(base, trained=False)
    first = encoder(["a cat", "a dog", "a cat"]).tokens
    assert asked == ["a cat", "a dog"]
    assert torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1])
    encoder(["a dog"])
    assert asked == ["a cat", "a dog"]


def test_a_trained_text_encoder_is_asked_every_time_and_gets_gradients(base: StableDiffusion) -> None:
    weight = base.pipe.text_encoder.get_input_embeddings().weight
    weight.requires_grad_(True)
    try:
        assert PromptEncoder(base, trained=True)(["a cat"]).tokens.requires_grad
        assert not PromptEncoder(base, trained=False)(["a cat"]).tokens.requires_grad
    finally:
        weight.requires_grad_(False)
