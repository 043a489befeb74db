"""Every setting of a run does something, and what is shown is what was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from lorastyle.adapters import load_adapter
from lorastyle.bank import GatedLayer
from lorastyle.bases import StableDiffusion
from lorastyle.train import FitResult, StepDone, finish, fit, loop, make_plan, scan
from lorastyle.train.checkpoint import load_checkpoint
from lorastyle.train.draw import draw
from lorastyle.train.optim import build_optimizer, rate
from lorastyle.train.sheet import Pair, make_sheet
from tests.train.running import make_pictures, same, short

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three pictures, the first of them partly transparent."""
    folder = make_pictures(tmp_path / "balls")
    with Image.open(folder / "ball0.png") as picture:
        clear = picture.convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 128))
    clear.save(folder / "ball0.png")
    return folder


def made(result: FitResult) -> dict[str, Tensor]:
    return dict(load_checkpoint(result.run / "checkpoint.safetensors").tensors)


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 7.0},
        {"rslora": True},
        {"dropout": 0.5},
        {"min_snr_gamma": 0.0},
        {"weight_decay": 1.0},
        {"background": "black"},
        {"seed": 3},
        {"prior": 0.25},
        {"text_encoder_lr": 1e-3},
        {"clip_skip": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_it_changes_what_is_learnt(
    base: StableDiffusion, images: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    common: dict[str, Any] = {"class_name": "ball", "prior": 1.0, "prior_images": 2, "text_encoder_lr": 1e-4}

    def run(name: str, **changes: Any) -> dict[str, Tensor]:
        return made(fit(short(images, tmp_path / name, **{**common, **changes}), base=base))

    first = run("a.safetensors")
    assert same(first, run("b.safetensors"))
    assert not same(first, run("c.safetensors", **change))


def test_gradients_are_clipped(
    base: StableDiffusion, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(fit(short(images, tmp_path / "a.safetensors"), base=base))
    monkeypatch.setattr(loop, "CLIP", 1e-9)
    assert not same(first, made(fit(short(images, tmp_path / "b.safetensors"), base=base)))


def test_each_component_has_its_own_rate(
    base: StableDiffusion, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[torch.optim.AdamW] = []

    def building(*args: Any) -> torch.optim.AdamW:
        built.append(build_optimizer(*args))
        return built[-1]

    monkeypatch.setattr(loop, "build_optimizer", building)
    fit(short(images, tmp_path / "a.safetensors", text_encoder_lr=2e-4, weight_decay=0.125), base=base)
    groups = built[0].param_groups
    assert [group["base_lr"] for group in groups] == [1e-3, 2e-4]
    assert groups[1]["lr"] == pytest.approx(groups[0]["lr"] / 5)
    assert [group["weight_decay"] for group in groups] == [0.125, 0.125]


def test_the_rate_warms_up_and_comes_down(base: StableDiffusion, images: Path, tmp_path: Path) -> None:
    config = short(images, tmp_path / "a.safetensors", steps=30)
    plan = make_plan(config, base, scan(config))
    result = fit(config, base=base)
    logged = [json.loads(line)["lr"] for line in (result.run / "log.jsonl").read_text().splitlines()]
    wanted = [plan.lr * rate(step, 30, plan.warmup) for step in range(30)]
    assert logged == pytest.approx(wanted) and plan.warmup > 1
    assert logged[0] < max(logged) and logged[-1] < max(logged) / 5


def test_every_step_takes_another_sample_of_the_posterior(
    base: StableDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    real = base.latents

    def latents(moments: Tensor, noise: Tensor) -> Tensor:
        seen.append(real(moments, noise).clone())
        return seen[-1]

    monkeypatch.setattr(base, "latents", latents)
    one = make_pictures(tmp_path / "one", 1)
    fit(short(one, tmp_path / "a.safetensors", steps=2, batch_size=1), base=base)
    assert len(seen) == 2 and not torch.equal(*seen)


def test_gradient_checkpointing_is_on_and_computes_the_same(
    base: StableDiffusion, images: Path, tmp_path: Path
) -> None:
    def run(enabled: bool) -> dict[str, Tensor]:
        def check(event: object) -> None:
            if isinstance(event, StepDone):
                assert bool(base.pipe.unet.is_gradient_checkpointing) is enabled

        config = short(images, tmp_path / f"{enabled}.safetensors", gradient_checkpointing=enabled)
        return made(fit(config, base=base, on_event=check))

    without, with_it = run(False), run(True)
    for name, tensor in without.items():
        torch.testing.assert_close(tensor, with_it[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_is_on_in_training_only(
    base: StableDiffusion, images: Path, tmp_path: Path, dropout: float
) -> None:
    def check(event: object) -> None:
        if isinstance(event, StepDone):
            layers = [m for m in base.pipe.unet.modules() if isinstance(m, GatedLayer)]
            assert layers and all(layer.training is bool(dropout) for layer in layers)
            assert not base.pipe.unet.training

    fit(short(images, tmp_path / "a.safetensors", dropout=dropout), base=base, on_event=check)


def test_high_dropout_is_given_time(base: StableDiffusion, images: Path, tmp_path: Path) -> None:
    config = short(images, tmp_path / "a.safetensors", dropout=0.97, rank=1, batch_size=1)
    assert fit(config, base=base).steps == 4


def test_samples_and_the_right_side_of_the_sheet_show_the_adapter(
    base: StableDiffusion, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Pair] = []

    def making(pairs: list[Pair], title: str, subtitle: str) -> Image.Image:
        shown.extend(pairs)
        return make_sheet(pairs, title, subtitle)

    monkeypatch.setattr(finish, "make_sheet", making)
    plain = draw(base, ["a cat"], [0])[0].tobytes()
    config = short(images, tmp_path / "a.safetensors", lr=0.05, steps=6, sample_every=5, targets=("all",))
    result = fit(config, base=base)
    (pair,) = shown
    assert pair.without.tobytes() == plain and pair.with_adapter.tobytes() != plain
    with Image.open(result.run / "samples" / "step-000005.png") as sample:
        assert sample.tobytes() != plain


def test_the_file_tells_the_numbers_of_the_run(base: StableDiffusion, images: Path, tmp_path: Path) -> None:
    result = fit(short(images, tmp_path / "a.safetensors", alpha=5.0, rslora=True), base=base)
    adapter = load_adapter(result.adapter, base.module_names())
    recipe = json.loads(adapter.metadata["lorastyle.recipe"])
    assert adapter.metadata["lorastyle.alpha"] == "5" and adapter.metadata["lorastyle.rank"] == "2"
    assert recipe["rslora"] is True and recipe["steps"] == recipe["planned_steps"] == 4


def test_guidance_is_heeded(base: StableDiffusion) -> None:
    weak, strong = (draw(base, ["a cat"], [0], guidance=value)[0].tobytes() for value in (1.0, 30.0))
    assert weak != strong
