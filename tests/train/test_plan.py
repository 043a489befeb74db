"""The autopilot's numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from lorastyle.bases import StableDiffusion
from lorastyle.errors import BaseError, ConfigError, TargetError
from lorastyle.train import Plan, TrainConfig, make_plan, scan
from lorastyle.train.costs import megabytes, minutes
from lorastyle.train.optim import build_optimizer, rate
from lorastyle.train.prompts import CONTEXTS
from tests.tiny import tiny_pipeline
from tests.train.running import make_pictures, tiny_base


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return tiny_base()


def plan_of(base: StableDiffusion, images: Path, **settings: object) -> Plan:
    config = TrainConfig(**{"images": str(images), **settings})  # type: ignore[arg-type]
    return make_plan(config, base, scan(config))


@pytest.fixture
def balls(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "balls", 3)


def test_a_clip_skip_beyond_the_layers_is_told_at_once(base: StableDiffusion, balls: Path) -> None:
    with pytest.raises(BaseError, match=r"clip skip is 12; .* 1 to 2"):
        plan_of(base, balls, clip_skip=12)


def test_only_a_folder_is_needed(base: StableDiffusion, balls: Path) -> None:
    plan = plan_of(base, balls, kind="style")
    assert (plan.name, plan.trigger, plan.out) == ("balls", "balls", Path("adapters/balls.safetensors"))
    assert (plan.batch_size, plan.rank, plan.alpha, plan.resolution) == (4, 16, 16.0, 64)
    assert plan.text_encoder_lr == 0 and set(plan.targets) == {"unet"}
    assert plan.steps * plan.batch_size >= 1000


def test_steps_follow_the_number_of_pictures(base: StableDiffusion, tmp_path: Path) -> None:
    for n in (1, 12):
        make_pictures(tmp_path / str(n), n)
    steps = {
        (kind, n): plan_of(base, tmp_path / str(n), kind=kind).steps
        for kind in ("style", "subject")
        for n in (1, 12)
    }
    assert steps == {("style", 1): 250, ("style", 12): 300, ("subject", 1): 150, ("subject", 12): 300}
    assert plan_of(base, tmp_path / "12", batch_size=8).steps == 150
    assert plan_of(base, tmp_path / "12", steps=7).steps == 7


def test_a_subject_is_learnt_more_gently_than_a_style(base: StableDiffusion, balls: Path) -> None:
    style, subject = (plan_of(base, balls, kind=kind) for kind in ("style", "subject"))
    assert subject.lr <= style.lr and subject.steps < style.steps


def test_what_the_user_sets_is_kept(base: StableDiffusion, balls: Path) -> None:
    plan = plan_of(
        base, balls, rank=4, alpha=2, lr=1e-4, text_encoder_lr=1e-5, targets=("attention",), sample_every=0
    )
    assert (plan.rank, plan.alpha, plan.lr, plan.text_encoder_lr, plan.sample_every) == (
        4,
        2.0,
        1e-4,
        1e-5,
        0,
    )
    assert all("attn" in path for path in plan.targets["unet"])
    assert all("self_attn" in path for path in plan.targets["text_encoder"])
    with pytest.raises(TargetError):
        plan_of(base, balls, targets=("atention",))
    assert set(plan_of(base, balls, lr=0, text_encoder_lr=1e-5).targets) == {"text_encoder"}
    with pytest.raises(ConfigError, match="nothing to train"):
        plan_of(base, balls, lr=0, text_encoder_lr=0)


def test_the_resolved_settings_make_the_same_plan(base: StableDiffusion, balls: Path, tmp_path: Path) -> None:
    config = TrainConfig(images=str(balls), out=str(tmp_path / "a.safetensors"), prior=0.5, class_name="ball")
    plan = make_plan(config, base, scan(config))
    (tmp_path / "run.toml").write_text(plan.resolved(config).to_toml())
    again = TrainConfig.from_toml(tmp_path / "run.toml")
    assert make_plan(again, base, scan(again)) == plan
    other = replace(again, steps=11)
    assert make_plan(other, base, scan(other)) != plan


def test_the_sheet_draws_what_is_not_among_the_pictures(base: StableDiffusion, tmp_path: Path) -> None:
    folder = tmp_path / "ink"
    folder.mkdir()
    for i, name in enumerate(("cat", "dog", "house")):
        Image.new("RGB", (64, 64), (i, 0, 0)).save(folder / f"{name}.png")
    prompts = plan_of(base, folder).sample_prompts
    assert len(prompts) == 6 and all(prompt.endswith(", ink style") for prompt in prompts)
    assert not any(word in prompt for prompt in prompts for word in ("cat", "dog", "house"))
    subject = plan_of(base, folder, kind="subject", class_name="face", trigger="blobby").sample_prompts
    assert "a blobby face on a blue background" in subject
    own = plan_of(base, folder, sample_prompts=("a {trigger} hat",)).sample_prompts
    assert own == ("a ink hat",)


def test_prior_needs_something_to_draw(base: StableDiffusion, tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "1.png")
    with pytest.raises(ConfigError, match="--class"):
        plan_of(base, folder, prior=1.0)
    plan = plan_of(base, folder, prior=1.0, class_name="face")
    assert plan.prior_prompts[0] == "a face" and "a small face" in plan.prior_prompts
    assert len(set(plan.prior_prompts)) == len(CONTEXTS) and plan.prior_images == 24
    assert not any(plan.trigger in prompt for prompt in plan.prior_prompts)


def test_the_plan_is_told_in_plain_words(base: StableDiffusion, balls: Path) -> None:
    (balls / "broken.png").write_bytes(b"")
    rows = plan_of(base, balls, text_encoder_lr=1e-5, prior=1.0, class_name="ball").describe()
    text = dict((key.strip(), value) for key, value in rows)
    assert text["pictures"] == "3 used, 1 dropped"
    assert text["dropped"].startswith("broken.png: ")
    assert text["trigger"] == '"balls", a kind of "ball"'
    assert "in the text encoder" in text["adapter"] and "weight 1" in text["prior"]
    assert all(isinstance(part, str) and "[" not in part for row in rows for part in row)


def test_what_a_person_should_know_is_told_once(base: StableDiffusion, tmp_path: Path) -> None:
    for i in range(5):
        folder = tmp_path / "x" / "10_ball"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32 if i else 16, 32), (i, 0, 0)).save(folder / f"{i}.png")
    notes = [value for key, value in plan_of(base, tmp_path / "x").describe() if key == "  note"]
    assert "kohya" in notes[0] and "10_ball" in notes[0]
    assert notes[1:] == [
        "10_ball/0.png: smaller than the resolution: enlarged 4.0x",
        "10_ball/0.png: cropped to its middle square, which leaves out 50%",
        "10_ball/1.png, 10_ball/2.png, 10_ball/3.png and 1 more: smaller than the resolution: enlarged 2.0x",
    ]
    larger = plan_of(base, tmp_path / "x", resolution=128).describe()
    assert any("enlarged 8.0x" in value for _, value in larger)


def sd15() -> StableDiffusion:
    """SD 1.5's shapes without its weights."""
    pipe = tiny_pipeline(prediction_type="epsilon")
    with torch.device("meta"):
        pipe.unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        pipe.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
            )
        )
    return StableDiffusion(pipe, name="sd15", dtype=torch.float32)


def test_the_default_file_of_sd15_is_20_to_50_megabytes(balls: Path) -> None:
    plan = plan_of(sd15(), balls)
    assert (plan.family, plan.rank) == ("sd1", 32)
    assert {component: len(paths) for component, paths in plan.targets.items()} == {
        "unet": 192,
        "text_encoder": 72,
    }
    assert 20e6 < plan.file_bytes < 50e6
    assert plan.text_encoder_lr < plan.lr and plan.batch_size == 1
    assert plan.memory_bytes > 3e9 and plan.seconds > 600


def test_the_learning_rate_warms_up_and_never_is_zero() -> None:
    rates = [rate(step, 100, 10) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] >= 0.1
    assert rate(150, 100, 10) > 0, "a run that is made longer"


def test_trainables_in_bfloat16_are_refused() -> None:
    from lorastyle.errors import TrainingError

    values = {"unet": [torch.nn.Parameter(torch.zeros(2))]}
    build_optimizer(values, {"unet": 1e-3}, 0.0)
    with pytest.raises(TrainingError, match="bfloat16"):
        build_optimizer({"unet": [torch.nn.Parameter(torch.zeros(2).bfloat16())]}, {"unet": 1e-3}, 0.0)


def test_the_time_holds_what_is_drawn_beside_the_training(base: StableDiffusion, balls: Path) -> None:
    def seconds(**more: object) -> float:
        settings = {"sample_prompts": ("a cat", "a dog"), "class_name": "ball", "batch_size": 1, **more}
        return plan_of(base, balls, **settings).seconds

    alone, with_sheet = seconds(sheet=False), seconds()
    with_prior = seconds(sheet=False, prior=1.0, prior_images=4)  # each step has as many class pictures
    of_four = with_prior - 2 * alone
    assert with_sheet - alone == pytest.approx(of_four)  # two prompts, without and with the adapter
    assert of_four > 0


def test_sizes_and_times_in_words() -> None:
    assert [megabytes(n) for n in (37_700_000, 2_100_000_000)] == ["37.7 MB", "2.1 GB"]
    assert [minutes(s) for s in (0.2, 40, 720, 9000)] == ["1 s", "40 s", "12 min", "2.5 h"]
