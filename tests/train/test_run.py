"""What a run refuses before it starts, and what it never gives up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lorastyle.adapters import read_header
from lorastyle.bases import StableDiffusion
from lorastyle.errors import ConfigError, TrainingError
from lorastyle.train import PlanReady, Preparing, fit, make_plan, scan
from lorastyle.train.finish import is_finished
from lorastyle.train.prior import class_images, model_key
from lorastyle.train.run import RunFolder
from tests.train.running import listener, short, stop_at, tiny_base

pytestmark = pytest.mark.usefixtures("quick")


def test_a_folder_in_the_place_of_the_file_is_refused_before_anything_is_encoded(
    base: StableDiffusion, images: Path, out: Path
) -> None:
    out.mkdir(parents=True)
    events: list[object] = []
    with pytest.raises(ConfigError, match="is a folder"):
        fit(short(images, out), base=base, on_event=listener(events))
    assert not any(isinstance(event, Preparing) for event in events)


def test_a_file_in_the_place_of_the_folder_is_refused(base: StableDiffusion, images: Path, out: Path) -> None:
    out.parent.write_text("not a folder")
    with pytest.raises(ConfigError, match="Choose another --out"):
        fit(short(images, out), base=base)


def test_one_run_at_a_time(base: StableDiffusion, images: Path, out: Path) -> None:
    other = RunFolder(out)
    with other.claimed(), pytest.raises(TrainingError, match="Another training writes to"):
        fit(short(images, out), base=base)
    assert not other.path.exists(), "nothing is left of a run that never was"
    assert fit(short(images, out), base=base).steps == 4
    assert not (other.path / "lock").exists()


def test_a_killed_run_lets_go(base: StableDiffusion, images: Path, out: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from lorastyle.train.run import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).claimed(): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(out)]).returncode == 9
    assert (out.with_suffix(".run") / "lock").exists()
    assert fit(short(images, out), base=base).steps == 4


def test_stopping_an_extension_keeps_the_finished_adapter(
    base: StableDiffusion, images: Path, out: Path
) -> None:
    fit(short(images, out), base=base)
    finished = out.read_bytes()
    longer = short(images, out, steps=40)
    stopped = fit(longer, base=base, resume=True, on_event=stop_at(6))
    assert out.read_bytes() == finished and stopped.adapter.name == "stopped.safetensors"
    assert stopped.steps == 6 and is_finished(out) and not is_finished(stopped.adapter)


def test_a_stopped_adapter_is_replaced_by_the_next(base: StableDiffusion, images: Path, out: Path) -> None:
    fit(short(images, out), base=base, on_event=stop_at(1))
    assert out.exists() and not is_finished(out)
    again = fit(short(images, out), base=base, on_event=stop_at(2))
    assert again.adapter == out and 'steps": 2' in read_header(out).metadata["lorastyle.recipe"]


def test_somebody_elses_file_counts_as_finished(out: Path) -> None:
    assert not is_finished(out)
    out.parent.mkdir()
    out.write_bytes(b"no adapter at all")
    assert is_finished(out)


def test_fewer_steps_than_were_done_are_refused(base: StableDiffusion, images: Path, out: Path) -> None:
    fit(short(images, out), base=base, on_event=stop_at(3))
    with pytest.raises(ConfigError, match="has done 3 already"):
        fit(short(images, out, steps=2), base=base, resume=True)


def test_another_autoencoder_or_schedule_is_not_resumed(images: Path, out: Path) -> None:
    fit(short(images, out), base=tiny_base(), on_event=stop_at(2))
    other = tiny_base()
    with torch.no_grad():
        for parameter in other.pipe.vae.parameters():
            parameter.mul_(1.7)
    with pytest.raises(ConfigError, match="autoencoder"):
        fit(short(images, out), base=other, resume=True)
    assert fit(short(images, out), base=tiny_base(), resume=True).steps == 4


def test_a_gradient_that_is_not_a_number_is_not_followed(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = base.predict

    class Poisoned(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:  # type: ignore[override]
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
            return gradient * float("nan")

    def poisoned(noisy: Tensor, timesteps: Tensor, *others: Any) -> Tensor:
        return Poisoned.apply(predict(noisy, timesteps, *others))  # type: ignore[no-any-return]

    monkeypatch.setattr(base, "predict", poisoned)
    with pytest.raises(TrainingError, match="gradient of step 1 is not a number"):
        fit(short(images, out), base=base)
    assert not out.exists() and not list(out.parent.rglob("checkpoint*"))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")]
)
def test_the_machines_full_memory_is_told_too(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(self: object, *args: object) -> Tensor:
        raise error

    monkeypatch.setattr(StableDiffusion, "predict", full)
    with pytest.raises(TrainingError, match="--batch-size 1"):
        fit(short(images, out), base=base)


def test_other_errors_are_not_taken_for_full_memory(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, *args: object) -> Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(StableDiffusion, "predict", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        fit(short(images, out), base=base)


def test_the_plan_says_when_memory_will_not_do(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short(images, out)
    dataset = scan(config)
    assert "more than" not in dict(make_plan(config, base, dataset).describe())["memory"]
    monkeypatch.setattr("lorastyle.train.room.free_memory", lambda device: 1000)  # type: ignore[misc]
    assert "more than the 0.0 MB" in dict(make_plan(config, base, dataset).describe())["memory"]


def test_a_listeners_lost_connection_is_not_taken_for_the_disk(
    base: StableDiffusion, images: Path, out: Path
) -> None:
    def lost(event: object) -> None:
        if not isinstance(event, PlanReady):
            raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        fit(short(images, out), base=base, on_event=lost)


def test_class_pictures_say_where_they_cannot_go(base: StableDiffusion, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match="--prior-folder"):
        class_images(base, "a face", 1, resolution=64, folder=tmp_path / "file")


def test_a_model_is_hashed_once_for_all_prompts(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[StableDiffusion] = []

    def counting(of: StableDiffusion) -> str:
        asked.append(of)
        return model_key(of)

    monkeypatch.setattr("lorastyle.train.fitting.model_key", counting)
    monkeypatch.setattr("lorastyle.train.prior.model_key", counting)
    for i, name in enumerate(("ball0", "ball1", "ball2")):
        (images / f"{name}.txt").write_text(f"thing number {'abc'[i]}")
    fit(short(images, out, prior=1.0, prior_images=2, kind="style"), base=base)
    assert len(asked) == 1
    assert len(list((images.parent / "cache" / "class").iterdir())) == 2, "no folder for a third"
