"""Previews while drawing, and stopping."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from PIL import Image

from lorastyle.bases import StableDiffusion, load_base
from lorastyle.errors import ConfigError
from lorastyle.generate import Engine, GenerateRequest, Picture
from lorastyle.generate import preview as preview_module
from lorastyle.generate.sketchers import VARIABLE, make_sketcher

REQUEST = GenerateRequest("a cat", seed=7, steps=4)


@pytest.fixture(scope="module")
def icons() -> Generator[Engine]:
    """The embedded base: its latents mean something."""
    yield Engine(load_base("embedded", device="cpu"), batch_size=2)


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_module, "EVERY", 0.0)
    monkeypatch.setattr(preview_module, "SHARE", 0)


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))


def array(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image.convert("RGB"), dtype=np.float64)


def same(one: Picture, other: Picture) -> bool:
    return bool((array(one.image) == array(other.image)).all())


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Correlation of what both show at a pixel for each latent."""
    small = (one.width // 8, one.height // 8)
    a, b = (array(image.resize(small, Image.Resampling.BOX)).ravel() for image in (one, other))
    return float(np.corrcoef(a, b)[0, 1])


def test_previews_come_to_look_like_the_picture(icons: Engine, every_step: None) -> None:
    seen: list[list[Image.Image]] = []
    request = GenerateRequest("a red apple, noto style", seed=3, steps=12, number=2)
    drawn = icons.generate(request, on_preview=seen.append)
    assert len(seen) == 12 and all(len(previews) == 2 for previews in seen)
    assert {preview.size for preview in seen[-1]} == {(128, 128)}
    found = [[likeness(of_step[i], drawn[i].image) for of_step in (seen[0], seen[-1])] for i in range(2)]
    assert all(first < last for first, last in found)
    assert all(last > 0.97 for _, last in found)
    # the negative control: the other of the two, which is another apple
    assert all(likeness(seen[-1][1 - i], drawn[i].image) < found[i][1] for i in range(2))


def test_previews_change_nothing(icons: Engine, every_step: None) -> None:
    request = GenerateRequest("a key, flat style", seed=1, steps=3)
    plain = icons.generate(request)
    state = torch.get_rng_state()
    watched = icons.generate(request, on_preview=lambda _: None)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(plain[0], watched[0])
    assert not same(plain[0], icons.generate(replace(request, seed=2))[0])


def test_previews_are_rare_where_steps_are_quick(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    engine.generate(
        replace(REQUEST, steps=10, number=5), on_preview=seen.append, on_step=lambda done, _: now.append(0)
    )
    assert len(seen) == 2  # the first step of both batches: the clock stands still
    seen.clear()

    def tick(done: int, total: int) -> None:
        now[0] += 0.2

    engine.generate(replace(REQUEST, steps=10), on_preview=seen.append, on_step=tick)
    assert len(seen) == 5


def test_previews_with_a_mask_show_what_is_kept(icons: Engine, every_step: None, tmp_path: Path) -> None:
    Image.new("RGB", (128, 128), (20, 160, 40)).save(tmp_path / "green.png")
    mask = Image.new("L", (128, 128), 0)
    mask.paste(255, (0, 0, 48, 128))
    mask.save(tmp_path / "mask.png")
    seen: list[list[Image.Image]] = []
    icons.generate(
        GenerateRequest(
            "a dog", seed=1, steps=4, init=str(tmp_path / "green.png"), mask=str(tmp_path / "mask.png")
        ),
        on_preview=seen.append,
    )
    kept, drawn = (array(seen[0][0])[32:96, columns].mean((0, 1)) for columns in (slice(80, 120), slice(40)))
    assert np.abs(kept - (20, 160, 40)).max() < 25
    assert np.abs(drawn - (20, 160, 40)).max() > 25


@pytest.mark.parametrize("number", [1, 2])
def test_stop_ends_within_a_step(engine: Engine, number: int) -> None:
    stop, steps = threading.Event(), list[int]()

    def told(done: int, total: int) -> None:
        steps.append(done)
        if done == 2:
            stop.set()

    assert engine.generate(replace(REQUEST, number=number), on_step=told, stop=stop) == []
    assert steps == [1, 2]


def test_what_was_finished_before_a_stop_is_returned(base: StableDiffusion) -> None:
    engine = Engine(base, batch_size=2)
    try:
        request, stop = replace(REQUEST, number=5), threading.Event()
        whole, kept = engine.generate(request), list[Picture]()

        def told(done: int, total: int) -> None:
            if done == total // 3 + 1:
                stop.set()

        stopped = engine.generate(request, on_step=told, on_picture=kept.append, stop=stop)
        assert [p.request.seed for p in stopped] == [7, 8] and kept == stopped
        assert all(same(one, other) for one, other in zip(stopped, whole, strict=False))
        assert not same(stopped[0], whole[1])
        assert len(engine.generate(request, stop=threading.Event())) == 5  # the engine is as it was
    finally:
        engine.bank.detach()


def test_a_stop_at_the_last_step_drops_the_batch_that_is_not_decoded(engine: Engine) -> None:
    stop = threading.Event()
    found = engine.generate(
        REQUEST, on_step=lambda done, total: stop.set() if done == total else None, stop=stop
    )
    assert found == []


def test_a_stop_in_the_second_pass(engine: Engine) -> None:
    stop, steps = threading.Event(), list[int]()

    def told(done: int, total: int) -> None:
        steps.append(done)
        if done == 5:
            stop.set()

    assert engine.generate(replace(REQUEST, hires=2, hires_strength=0.5), on_step=told, stop=stop) == []
    assert steps == [1, 2, 3, 4, 5]


def test_a_request_that_waits_can_be_stopped(engine: Engine) -> None:
    stop, results = threading.Event(), list[list[Picture]]()
    second = threading.Thread(target=lambda: results.append(engine.generate(REQUEST, stop=stop)))

    def told(done: int, total: int) -> None:
        if done == 1:
            second.start()
            stop.set()
            second.join(20)

    assert len(engine.generate(REQUEST, on_step=told)) == 1
    assert results == [[]]


def test_a_tiny_autoencoder(
    engine: Engine, base: StableDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: dict[str, Any] = {
        "encoder_block_out_channels": (4, 4, 4, 4),
        "decoder_block_out_channels": (4, 4, 4, 4),
    }
    blocks: dict[str, Any] = {"num_encoder_blocks": (1, 1, 1, 1), "num_decoder_blocks": (1, 1, 1, 1)}
    tiny = AutoencoderTiny(**widths, **blocks, latent_channels=4)
    tiny.save_pretrained(tmp_path / "tiny")
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tiny.decode(latents, return_dict=False)[0]
    assert torch.equal(make_sketcher(base, str(tmp_path / "tiny"))(latents), expected)
    assert make_sketcher(base, "linear")(latents).shape == (2, 3, 8, 8)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "tiny"))
    assert torch.equal(make_sketcher(base)(latents), expected)
    AutoencoderTiny(**widths, **blocks, latent_channels=16).save_pretrained(tmp_path / "sixteen")
    with pytest.raises(ConfigError, match="is for 16 latent channels, and the base"):
        make_sketcher(base, str(tmp_path / "sixteen"))
    with pytest.raises(ConfigError, match=r"neither a folder nor a model in the local.*`hf download a/b`"):
        make_sketcher(base, "a/b")
    (tmp_path / "tiny" / "config.json").write_text("no")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        make_sketcher(base, str(tmp_path / "tiny"))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_noise_free_undoes_the_noise(base: StableDiffusion, prediction_type: str) -> None:
    rng = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=rng)
    before, base.prediction_type = base.prediction_type, prediction_type
    try:
        for t in (10, 500, 900):
            a = base.alphas_cumprod[t]
            noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
            answer = noise if prediction_type == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * clean
            found = base.noise_free(noisy, answer, torch.tensor(t))
            assert torch.allclose(found, clean, atol=1e-4)
            assert not torch.allclose(base.noise_free(noisy, answer, torch.tensor(t + 50)), clean, atol=1e-2)
    finally:
        base.prediction_type = before
