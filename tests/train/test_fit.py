"""From a folder of pictures to an adapter, on the tiny pipeline."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import SlicedAttnProcessor
from PIL import Image
from torch import Tensor

from lorastyle.adapters import load_adapter
from lorastyle.bank import AdapterBank
from lorastyle.bases import PromptEmbeds, StableDiffusion
from lorastyle.errors import BaseError, ConfigError, TrainingError
from lorastyle.train import (
    Finished,
    PlanReady,
    StepDone,
    TrainConfig,
    Warned,
    fit,
    fitting,
    make_plan,
    scan,
)
from lorastyle.train.checkpoint import load_checkpoint
from lorastyle.train.modes import quick_attention
from lorastyle.train.objective import Objective
from tests.train.running import factors, listener, make_pictures, same, short, stop_at, tiny_base

pytestmark = pytest.mark.usefixtures("quick")


def test_end_to_end(base: StableDiffusion, images: Path, out: Path) -> None:
    events: list[object] = []
    config = short(images, out, save_every=2, sample_every=2)
    result = fit(config, base=base, on_event=listener(events))

    made = {str(path.relative_to(out.parent)) for path in out.parent.rglob("*") if path.is_file()}
    assert made == {
        "ink.safetensors",
        "ink.toml",
        "ink.sheet.png",
        "ink.run/run.toml",
        "ink.run/log.jsonl",
        "ink.run/events.jsonl",
        "ink.run/checkpoint.safetensors",
        "ink.run/samples/step-000002.png",
    }
    assert (result.adapter, result.steps, result.interrupted) == (out, 4, False)
    assert isinstance(events[0], PlanReady) and isinstance(events[-1], Finished)
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4]
    log = [json.loads(line) for line in (result.run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 4] and all(line["loss"] > 0 for line in log)

    adapter = load_adapter(out, base.module_names())
    assert adapter.trigger == "ink" and adapter.family == base.family and adapter.ranks == (2,)
    text = json.dumps(dict(adapter.metadata))
    assert adapter.metadata["modelspec.thumbnail"].startswith("data:image/jpeg")
    assert json.loads(adapter.metadata["lorastyle.recipe"])["steps"] == 4
    for private in (str(images), str(out.parent), "ball0"):
        assert private not in text

    again = TrainConfig.from_toml(result.toml)
    dataset = scan(again)
    assert make_plan(again, base, dataset) == make_plan(config, base, scan(config))


def test_the_base_and_the_random_state_are_left_as_they_were(
    base: StableDiffusion, images: Path, out: Path
) -> None:
    modules, processors = dict(base.pipe.unet.named_modules()), dict(base.pipe.unet.attn_processors)
    before = {name: value.clone() for name, value in base.pipe.unet.state_dict().items()}
    state = torch.get_rng_state()
    fit(short(images, out, dropout=0.5, gradient_checkpointing=True), base=base)
    assert dict(base.pipe.unet.named_modules()) == modules
    assert dict(base.pipe.unet.attn_processors) == processors
    assert all(torch.equal(before[name], value) for name, value in base.pipe.unet.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not base.pipe.unet.is_gradient_checkpointing


def test_quick_attention_computes_the_same(base: StableDiffusion) -> None:
    generator = torch.Generator().manual_seed(0)
    noisy, t = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([10, 900])
    prompts = base.encode_prompts(["a cat", "a dog"])

    def predict(resolution: int) -> tuple[Tensor, bool]:
        with torch.no_grad(), quick_attention(base, resolution):
            kinds = {type(p).__name__ for p in base.pipe.unet.attn_processors.values()}
            return base.predict(noisy, t, prompts), kinds == {"AttnProcessor"}

    (few, swapped), (many, not_swapped) = predict(64), predict(1024)
    torch.testing.assert_close(few, many, atol=1e-5, rtol=1e-5)
    assert swapped and not not_swapped

    before = dict(base.pipe.unet.attn_processors)
    chosen = SlicedAttnProcessor(1)
    base.pipe.unet.set_attn_processor(chosen)
    try:
        with quick_attention(base, 64):
            assert set(base.pipe.unet.attn_processors.values()) == {chosen}, "what somebody chose stays"
    finally:
        base.pipe.unet.set_attn_processor(before)


def test_one_picture_is_learnt(base: StableDiffusion, tmp_path: Path) -> None:
    images = make_pictures(tmp_path / "one", 1)
    losses: dict[float, float] = {}
    for lr in (1e-2, 1e-9):
        config = short(images, tmp_path / f"{lr}.safetensors", lr=lr, steps=50, rank=8, targets=("all",))
        losses[lr] = fit(config, base=base).final_loss
    assert losses[1e-2] < 0.75 * losses[1e-9], "the same noise and pictures, with and without learning"


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_tensor_learns(images: Path, out: Path, dtype: torch.dtype, checkpointing: bool) -> None:
    base = tiny_base(dtype)
    config = short(images, out, steps=10, text_encoder_lr=1e-3, gradient_checkpointing=checkpointing)
    plan = make_plan(config, base, scan(config))
    with AdapterBank(base.components) as bank:
        bank.create("ink", plan.targets, rank=2, seed=plan.seed)
        before = [value.detach().clone() for value in bank.parameters("ink")]
    result = fit(config, base=base)  # raises where a tensor has no gradient by step 2
    after = load_checkpoint(result.run / "checkpoint.safetensors").tensors
    assert set(plan.targets) == {"unet", "text_encoder"} and len(before) > 40
    for i, was in enumerate(before):
        now = after[f"parameter.{i}"]
        assert now.dtype == torch.float32 and now.ne(was).float().mean() >= 0.99, i
    assert {value.dtype for value in after.values()} == {torch.float32}


def test_class_pictures_are_drawn_with_the_runs_clip_skip(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real = list[object](), fitting.class_images

    def watched(*values: Any, **options: Any) -> list[Path]:
        asked.append(options["clip_skip"])
        return real(*values, **options)

    monkeypatch.setattr(fitting, "class_images", watched)
    fit(short(images, out, class_name="ball", prior=1.0, prior_images=2, clip_skip=2, steps=1), base=base)
    assert set(asked) == {2}


def test_sidecars_for_other_programs(base: StableDiffusion, images: Path, out: Path) -> None:
    for sheet in (False, True):
        fit(short(images, out, sheet=sheet, sidecars=True), base=base)
        assert json.loads(out.with_suffix(".json").read_text())["activation text"] == "ink"
        assert out.with_suffix(".png").exists() == sheet
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.size == (64, 64)
    assert not any(out.with_suffix(suffix).unlink() for suffix in (".json", ".png"))
    fit(short(images, out, sheet=False), base=base)
    assert not out.with_suffix(".json").exists()
    out.with_suffix(".json").write_text("[]")
    told: list[object] = []
    fit(short(images, out, sheet=False, sidecars=True), base=base, on_event=told.append)
    warned = [event.text for event in told if isinstance(event, Warned)]
    assert len(warned) == 1 and "is none of A1111's" in warned[0] and out.exists()


def test_the_sheet_can_be_left_out(base: StableDiffusion, images: Path, out: Path) -> None:
    assert fit(short(images, out, sheet=False), base=base).sheet is None
    assert not out.with_suffix(".sheet.png").exists() and out.exists()


def test_what_gets_no_gradient_is_an_error(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = base.encode_prompts

    def detached(prompts: list[str], clip_skip: int) -> PromptEmbeds:
        return encode(prompts, clip_skip=clip_skip).detach()

    monkeypatch.setattr(base, "encode_prompts", detached)
    with pytest.raises(TrainingError, match=r"no gradient.*text_encoder\."):
        fit(short(images, out, text_encoder_lr=1e-3), base=base)
    assert not out.exists()


def test_a_loss_that_is_not_a_number_names_picture_and_timestep(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, calls = base.predict, iter(range(100))

    def failing(noisy: Tensor, timesteps: Tensor, *others: Any) -> Tensor:
        answer = predict(noisy, timesteps, *others)
        return answer * float("nan") if next(calls) == 2 else answer

    monkeypatch.setattr(base, "predict", failing)
    with pytest.raises(TrainingError, match=r"step 3 .*ball\d\.png\" at timestep \d+"):
        fit(short(images, out), base=base)
    assert not out.exists()


def test_drawing_samples_changes_nothing(base: StableDiffusion, images: Path, tmp_path: Path) -> None:
    def made(name: str, **changes: object) -> dict[str, Tensor]:
        return factors(fit(short(images, tmp_path / name, dropout=0.2, **changes), base=base).adapter, base)

    plain = made("a.safetensors")
    assert same(plain, made("b.safetensors", sample_every=1))
    assert not same(plain, made("c.safetensors", seed=1))


def test_prior_of_weight_zero_is_no_prior(base: StableDiffusion, images: Path, tmp_path: Path) -> None:
    def made(name: str, **changes: object) -> dict[str, Tensor]:
        config = short(images, tmp_path / name, class_name="ball", **changes)
        return factors(fit(config, base=base).adapter, base)

    plain = made("a.safetensors")
    assert same(plain, made("b.safetensors", prior=0.0, prior_images=2))
    assert not (tmp_path / "cache" / "class").exists()
    assert not same(plain, made("c.safetensors", prior=1.0, prior_images=2))
    assert len(list((tmp_path / "cache" / "class").rglob("*.png"))) == 2


@pytest.mark.parametrize("size", [1, 3])
def test_prior_preservation_at_any_batch_size(
    base: StableDiffusion, images: Path, out: Path, size: int
) -> None:
    result = fit(short(images, out, class_name="ball", prior=1.0, prior_images=2, batch_size=size), base=base)
    assert result.final_loss > 0 and not result.interrupted


@pytest.mark.parametrize("how", ["KeyboardInterrupt", "SIGINT", "SIGTERM"])
def test_stopping_saves_what_there_is(base: StableDiffusion, images: Path, out: Path, how: str) -> None:
    def stop(event: object) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            if how == "KeyboardInterrupt":
                raise KeyboardInterrupt
            os.kill(os.getpid(), getattr(signal, how))

    events: list[object] = []
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    result = fit(short(images, out), base=base, on_event=listener(events, stop))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert result.interrupted and result.steps == 2 and result.sheet is None
    assert out.exists() and (result.run / "checkpoint.safetensors").exists()
    (warning,) = [event.text for event in events if isinstance(event, Warned)]
    assert f'--config "{result.run / "run.toml"}" --resume' in warning


def test_resuming_is_the_same_run_bit_for_bit(base: StableDiffusion, images: Path, tmp_path: Path) -> None:
    """20 steps are 10, a checkpoint, and 10 more; with dropout, samples and a trained text encoder."""

    def config(name: str) -> TrainConfig:
        return short(
            images,
            tmp_path / name / "ink.safetensors",
            steps=20,
            dropout=0.1,
            text_encoder_lr=1e-4,
            sample_every=7,
        )

    def stop(event: object) -> None:
        if isinstance(event, StepDone) and event.step == 10:
            raise KeyboardInterrupt

    whole = fit(config("whole"), base=base)
    half = fit(config("halves"), base=base, on_event=stop)
    at_half = factors(half.adapter, base)
    assert half.steps == 10 and not same(at_half, factors(whole.adapter, base))

    resumed = TrainConfig.from_toml(half.run / "run.toml")
    steps: list[object] = []
    rest = fit(resumed, base=base, resume=True, on_event=listener(steps))
    assert [event.step for event in steps if isinstance(event, StepDone)] == list(range(11, 21))
    assert same(factors(rest.adapter, base), factors(whole.adapter, base))
    assert (half.run / "log.jsonl").read_text() == (whole.run / "log.jsonl").read_text()
    ends = [load_checkpoint(run / "checkpoint.safetensors").tensors for run in (whole.run, half.run)]
    assert same(dict(ends[0]), dict(ends[1])), "the optimiser's state too"


def test_a_full_disk_leaves_the_adapter_that_was_there(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.parent.mkdir()
    out.write_bytes(b"an earlier adapter")
    real = os.fsync

    def full(descriptor: int) -> None:
        if os.fstat(descriptor).st_size > 3000:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match="No space left on device"):
        fit(short(images, out), base=base)
    assert out.read_bytes() == b"an earlier adapter"
    assert not [path for path in out.parent.rglob("*") if path.name.endswith(".tmp")]


def test_killed_while_the_adapter_is_written(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies before the rename leaves no adapter, and its checkpoint makes one."""
    real = os.replace

    class Killed(BaseException):
        pass

    def dying(source: str, target: Path) -> None:
        if Path(target).name == out.name:
            raise Killed
        real(source, target)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(Killed):
        fit(short(images, out), base=base)
    assert not out.exists()
    monkeypatch.setattr(os, "replace", real)
    assert fit(short(images, out), base=base, resume=True).steps == 4
    assert out.exists()


def test_a_stopped_run_leaves_the_finished_adapter(base: StableDiffusion, images: Path, out: Path) -> None:
    """Its own goes into the run folder, until it is finished too."""
    finished = fit(short(images, out), base=base)
    before, checkpoint = out.read_bytes(), finished.run / "checkpoint.safetensors"
    of_first = load_checkpoint(checkpoint).tensors
    events: list[object] = []
    other = short(images, out, seed=1)
    stopped = fit(other, base=base, on_event=listener(events, stop_at(2)))
    assert out.read_bytes() == before and stopped.adapter == stopped.run / "stopped.safetensors"
    assert load_adapter(stopped.adapter, base.module_names()).trigger == "ink"
    assert same(dict(of_first), dict(load_checkpoint(stopped.run / "checkpoint.old.safetensors").tensors))
    assert any("finished ink.safetensors was left" in e.text for e in events if isinstance(e, Warned))
    (plan,) = [event.plan for event in events if isinstance(event, PlanReady)]
    assert "replaces the one that is there" in dict(plan.describe())["file"]

    again = fit(other, base=base, on_event=stop_at(3), resume=True)
    assert out.read_bytes() == before and again.steps == 3
    done = fit(other, base=base, resume=True)
    assert done.adapter == out and out.read_bytes() != before and not again.adapter.exists()


def test_resuming_with_other_settings_names_them(base: StableDiffusion, images: Path, out: Path) -> None:
    fit(short(images, out), base=base, on_event=stop_at(2))
    (images / "ball1.png").rename(images / "dot1.png")
    changed = short(images, out, background="black", targets=("attention+ff",), class_name="ball", prior=1.0)
    with pytest.raises(ConfigError) as caught:
        fit(changed, base=base, resume=True)
    told = " ".join(caught.value.problems)
    for what in ("background was white", "targets was", "the prompts was", "ball1.png", "dot1.png", "prior"):
        assert what in told
    assert "rank" not in told and "ball0.png" not in told
    assert not list((images.parent / "cache").glob("class/**/*.png")), "refused before anything is drawn"


def test_a_base_in_float16_is_refused(images: Path, out: Path) -> None:
    with pytest.raises(BaseError, match="bfloat16"):
        fit(short(images, out), base=tiny_base(torch.float16))


def test_a_picture_that_goes_away_is_named(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(event: object) -> None:
        if isinstance(event, PlanReady):
            (images / "ball1.png").unlink()

    with pytest.raises(TrainingError, match=r"ball1\.png.*cannot be read now"):
        fit(short(images, out), base=base, on_event=leave)


def test_a_full_card_is_told_with_what_needs_less(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, *args: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StableDiffusion, "predict", full)
    with pytest.raises(TrainingError, match="--batch-size 1"):
        fit(short(images, out), base=base)


@pytest.mark.parametrize("text_encoder_lr", [0.0, 1e-3])
def test_class_pictures_ask_for_the_base_itself(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch, text_encoder_lr: float
) -> None:
    """Before the first step the adapter is nothing, so they have no loss; afterwards they have some."""
    seen: list[tuple[Tensor, Tensor]] = []
    real = Objective.total

    def total(self: Objective, losses: Tensor, of_class: Tensor) -> Tensor:
        seen.append((losses[of_class].detach(), losses[~of_class].detach()))
        return real(self, losses, of_class)

    monkeypatch.setattr(Objective, "total", total)
    config = short(
        images, out, class_name="ball", prior=1.0, text_encoder_lr=text_encoder_lr, lr=1e-2, steps=6
    )
    fit(config, base=base)
    (first, own), *later = seen
    assert len(first) == 2 and float(first.max()) < 1e-10 and float(own.max()) > 1e-3
    assert float(torch.cat([of_class for of_class, _ in later]).max()) > 1e-6
