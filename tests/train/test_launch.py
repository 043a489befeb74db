"""Training in a process of its own, on the base that comes along."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import pytest

from lorastyle.errors import ConfigError, TrainingError
from lorastyle.train import (
    RunFolder,
    RunStatus,
    TrainConfig,
    launch,
    list_runs,
    observe,
    request_stop,
    restart,
)
from lorastyle.train.follow import process_of
from lorastyle.train.journal import read_lines
from tests.train.running import short

STEPS = 24
"""Some seconds, in which a run is stopped or killed."""


def until(out: Path, reached: Callable[[RunStatus], bool], seconds: float = 120) -> RunStatus:
    """What is seen as soon as this is so."""
    end = time.monotonic() + seconds
    while not reached(status := observe(out)):
        assert time.monotonic() < end, (status, RunFolder(out).output.read_text())
        time.sleep(0.02)
    return status


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"LORASTYLE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def config(images: Path, out: Path) -> Generator[TrainConfig]:
    """What is left of the run at the end of the test is killed."""
    yield short(images, out, base="embedded", resolution=64, steps=STEPS, save_every=2, sheet=False)
    for line in read_lines(RunFolder(out).events):
        if line.get("event") in ("spawned", "started") and observe(out).active:
            os.kill(int(line["pid"]), signal.SIGKILL)


def kill(out: Path) -> None:
    started = [line for line in read_lines(RunFolder(out).events) if line.get("event") == "started"]
    os.kill(int(started[-1]["pid"]), signal.SIGKILL)


def test_a_run_is_stopped_and_finished(config: TrainConfig, out: Path, environment: dict[str, str]) -> None:
    run = launch(config, environment=environment)
    assert (run.adapter, observe(out).state) == (out, "queued")
    for again in (lambda: launch(config), lambda: restart(out)):
        with pytest.raises(TrainingError, match="ink is at work"):
            again()

    status = until(out, lambda seen: not seen.active or seen.step >= 2)
    assert (status.state, status.steps, status.stopping, status.error) == ("training", STEPS, False, "")
    assert dict(status.rows)["base"].startswith("embedded") and not status.can_resume
    assert request_stop(out)
    stopped = until(out, lambda seen: not seen.active)
    assert (stopped.state, stopped.can_resume, stopped.adapter) == ("stopped", True, out)
    assert 2 <= stopped.step < STEPS and "--resume" in stopped.warnings[-1]
    assert "Traceback" not in run.output.read_text()

    restart(out, environment=environment)
    done = until(out, lambda seen: not seen.active)
    assert (done.state, done.step, done.error, done.can_resume) == ("finished", STEPS, "", False)
    assert [step for step, _ in done.losses] == list(range(1, STEPS + 1))
    assert done.losses[: stopped.step] == stopped.losses and done.adapter == out
    assert list_runs(out.parent) == [out]


def test_a_killed_run_and_one_that_fails(
    config: TrainConfig, tmp_path: Path, out: Path, environment: dict[str, str]
) -> None:
    """Both at once, as two runs can be."""
    broken, empty = out.with_stem("broken"), tmp_path / "empty"
    empty.mkdir()
    launch(short(empty, broken), environment=environment)
    launch(config, environment=environment)
    until(out, lambda seen: not seen.active or RunFolder(out).checkpoint.exists())
    assert (observe(out).state, observe(out).can_resume) == ("training", False)
    kill(out)
    killed = until(out, lambda seen: not seen.active, seconds=10)
    assert (killed.state, killed.can_resume) == ("crashed", True) and "killed" in killed.error
    assert 2 <= killed.step < STEPS and not out.exists()

    failed = until(broken, lambda seen: not seen.active)
    assert failed.state == "failed" and str(empty) in failed.error
    assert not failed.can_resume and not broken.exists()


def test_stopped_or_killed_before_it_gets_to_its_folder(
    config: TrainConfig, out: Path, environment: dict[str, str]
) -> None:
    run = launch(config, environment=environment)
    process = process_of(run)
    assert process is not None and request_stop(out)
    status = observe(out)
    assert (status.state, status.can_resume, status.error) == ("stopped", False, "")
    assert not process.is_running() and not request_stop(out)

    restart(out, environment=environment)
    process = process_of(run)
    assert process is not None and observe(out).state == "queued"
    process.kill()
    killed = until(out, lambda seen: not seen.active, seconds=10)
    assert (killed.state, killed.can_resume) == ("crashed", False) and "killed" in killed.error


def test_the_process_is_in_a_session_of_its_own(config: TrainConfig, environment: dict[str, str]) -> None:
    process = process_of(launch(config, environment=environment))
    assert process is not None
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    assert Path(process.cwd()) == RunFolder(Path(config.out or "")).path, "not ours, which may go with us"
    assert process.environ()["LORASTYLE_CACHE"] == environment["LORASTYLE_CACHE"]
    process.kill()
    with pytest.raises(psutil.NoSuchProcess):
        for _ in range(500):  # whoever started it takes note of its end: no zombie is left
            process.status()
            time.sleep(0.02)


def test_what_cannot_be_started(config: TrainConfig, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="out is missing"):
        launch(TrainConfig(images=str(images)))
    with pytest.raises(ConfigError, match="holds no settings"):
        restart(tmp_path / "none.safetensors")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Choose another folder"):
        launch(short(images, tmp_path / "file" / "ink.safetensors"))
