"""What a run is at, by the files in its folder alone."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from lorastyle.bases import StableDiffusion
from lorastyle.errors import TrainingError
from lorastyle.train import (
    Preparing,
    RunFolder,
    RunStatus,
    StepDone,
    fit,
    list_runs,
    observe,
    printed,
    request_stop,
)
from lorastyle.train.follow import tail
from lorastyle.train.lock import is_held, take
from tests.train.running import short, stop_at

pytestmark = pytest.mark.usefixtures("quick")

STARTED: dict[str, object] = {
    "event": "started",
    "trigger": "ink",
    "steps": 4,
    "rows": [["base", "tiny"], ["torn"], "no row"],
}
BEGUN: dict[str, object] = {"event": "begun", "step": 0, "steps": 4}
STEP: dict[str, object] = {"event": "step", "step": 1, "seconds_left": 30.0, "images_per_second": 2.0}
SPAWNED: dict[str, object] = {
    "event": "spawned",
    "pid": os.getpid(),
    "created": psutil.Process().create_time(),
}


def written(out: Path, *events: dict[str, object], torn: bytes = b"") -> RunFolder:
    """A run folder with this journal, and the log of two steps."""
    run = RunFolder(out)
    run.path.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"time": time.time(), **event}).encode() + b"\n" for event in events)
    run.events.write_bytes(b"".join(lines) + torn)
    run.log.write_text('{"step": 1, "loss": 0.5, "lr": 1}\n{"step": 2, "loss": 0.25, "lr": 1}\n')
    return run


def held(run: RunFolder) -> RunStatus:
    """What is seen while a process has the folder."""
    file = take(run.lock)
    assert file is not None
    with file:
        return observe(run.adapter)


def test_a_run_is_seen_from_its_first_picture_to_its_end(
    base: StableDiffusion, images: Path, out: Path
) -> None:
    seen: list[RunStatus] = []

    def look(event: object) -> None:
        if isinstance(event, (Preparing, StepDone)):
            seen.append(observe(out))

    assert observe(out) == RunStatus("ink", out.with_suffix(".run"), "none")
    result = fit(short(images, out, sample_every=2), base=base, on_event=look)
    states = [status.state for status in seen]
    assert sorted(set(states), key=states.index) == ["preparing", "training", "finishing"]
    assert all(status.active and status.trigger == "ink" and status.rows for status in seen)
    assert not any(status.can_resume or status.stopping for status in seen)
    training = [status for status in seen if status.state == "training"]
    assert [(status.step, status.steps) for status in training] == [(i, 4) for i in (1, 2, 3, 4)]

    end = observe(out)
    assert (end.state, end.step, end.error, end.can_resume) == ("finished", 4, "", False)
    assert (end.adapter, end.sheet, end.seconds) == (result.adapter, result.sheet, result.seconds)
    assert [path.name for path in end.samples] == ["step-000002.png"]
    assert [step for step, _ in end.losses] == [1, 2, 3, 4] and end.losses[-1][1] > 0


def test_a_request_ends_the_run_after_its_step(base: StableDiffusion, images: Path, out: Path) -> None:
    asked: list[RunStatus] = []

    def ask(event: object) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            assert request_stop(out)
            asked.append(observe(out))

    assert not request_stop(out) and not out.parent.exists(), "nothing is at work"
    result = fit(short(images, out), base=base, on_event=ask)
    assert result.interrupted and result.steps == 2
    assert [(status.state, status.stopping) for status in asked] == [("training", True)]
    status = observe(out)
    assert (status.state, status.stopping, status.can_resume, status.step) == ("stopped", False, True, 2)
    assert status.adapter == out and "--resume" in status.warnings[-1]

    assert not request_stop(out), "it has ended"
    assert fit(short(images, out), base=base, resume=True).steps == 4
    assert [step for step, _ in observe(out).losses] == [1, 2, 3, 4]


def test_an_error_is_told(base: StableDiffusion, images: Path, out: Path) -> None:
    def fail(event: object) -> None:
        if isinstance(event, StepDone):
            raise TrainingError("The paper is wet. Dry it.")

    with pytest.raises(TrainingError):
        fit(short(images, out), base=base, on_event=fail)
    status = observe(out)
    assert (status.state, status.error, status.can_resume) == ("failed", "The paper is wet. Dry it.", False)


def test_stopped_before_the_first_step_there_is_nothing_to_go_on_from(
    base: StableDiffusion, images: Path, out: Path
) -> None:
    """The older run's checkpoint is still there, and is not this one's."""
    fit(short(images, out), base=base, on_event=stop_at(2))
    assert observe(out).can_resume

    def ask(event: object) -> None:
        if isinstance(event, Preparing):
            request_stop(out)

    with pytest.raises(KeyboardInterrupt):
        fit(short(images, out, seed=1), base=base, on_event=ask)
    status = observe(out)
    assert (status.state, status.can_resume, status.losses) == ("stopped", False, ())
    assert RunFolder(out).checkpoint.exists()


def test_without_an_end_only_the_lock_tells_a_killed_run_from_a_living_one(out: Path) -> None:
    run = written(out, STARTED, BEGUN, STEP)
    living, killed = held(run), observe(out)
    assert (living.state, living.error, living.active) == ("training", "", True)
    assert living.seconds_left is not None and 25 < living.seconds_left <= 30
    assert killed.state == "crashed" and "killed" in killed.error and killed.seconds_left is None
    assert (killed.step, killed.steps, killed.rows) == (2, 4, (("base", "tiny"),))
    assert not killed.can_resume
    run.checkpoint.touch()
    assert observe(out).can_resume and not held(run).can_resume


def test_where_a_run_is_follows_from_its_last_words(out: Path) -> None:
    preparing: dict[str, object] = {"event": "preparing", "what": "drawing", "done": 1, "total": 3}
    finished: dict[str, object] = {"event": "finished", "interrupted": False, "adapter": "../gone"}
    assert held(written(out, STARTED, preparing)).state == "preparing"
    status = held(written(out, STARTED, preparing, BEGUN))
    assert (status.state, status.what, status.done, status.total) == ("training", "drawing", 1, 3)
    assert held(written(out, STARTED, BEGUN, STEP, preparing)).state == "finishing"
    ended = observe(written(out, STARTED, BEGUN, finished).adapter)
    assert (ended.state, ended.adapter) == ("finished", None), "the file has been taken away"
    assert observe(written(out, STARTED, BEGUN, {**finished, "interrupted": True}).adapter).state == "stopped"


def test_a_process_that_was_asked_for_is_queued_while_it_lives(out: Path) -> None:
    asked: dict[str, object] = {"event": "asked", "resume": False}

    def state(*events: dict[str, object]) -> str:
        return observe(written(out, *events).adapter).state

    assert state(asked) == "queued"
    assert state({**asked, "time": time.time() - 60}) == "crashed"
    assert state(asked, SPAWNED) == "queued"
    assert state(asked, {**SPAWNED, "created": 1.0}) == "crashed", "a later process of that number"
    RunFolder(out).output.write_text("loading\nerror: No such base.\nTake another.\n")
    assert state(asked, SPAWNED) == "queued"
    failed = observe(written(out, asked, {**SPAWNED, "pid": -1}).adapter)
    assert (failed.state, failed.error) == ("failed", "No such base.\nTake another.")


@pytest.mark.parametrize(
    "torn", [b'{"event": "finis', b"\xff\xfe\x00\n", b"[1]\n7\nnull\n\n", b'{"event": ' + b"[" * 9000 + b"\n"]
)
def test_torn_lines_are_left_out(out: Path, torn: bytes) -> None:
    whole = held(written(out, STARTED, BEGUN, STEP))
    run = written(out, STARTED, BEGUN, STEP, torn=torn)
    with run.log.open("ab") as log:
        log.write(torn)
    status = held(run)
    assert (status.state, status.losses, status.rows) == (whole.state, whole.losses, whole.rows)
    assert held(written(out, STARTED, BEGUN, STEP, torn=b'{"event": "failed", "error": "no"}')).error == "no"


def test_values_of_another_version_are_no_trouble(out: Path) -> None:
    strange: dict[str, object] = {"event": "step", "step": None, "seconds_left": "soon", "time": []}
    run = written(out, {**STARTED, "steps": "many", "rows": 3}, BEGUN, strange, {"event": "moved", "to": 1})
    status = held(run)
    assert (status.state, status.steps, status.rows, status.seconds_left) == ("training", 2, (), None)


def test_a_run_without_a_journal(base: StableDiffusion, images: Path, out: Path) -> None:
    """As an older version left it."""
    run = RunFolder(fit(short(images, out, sheet=False), base=base, on_event=stop_at(2)).adapter)
    run.events.unlink()
    assert (observe(out).state, observe(out).can_resume, held(run).state) == ("stopped", True, "training")
    fit(short(images, out, sheet=False), base=base, resume=True)
    run.events.unlink()
    assert (observe(out).state, observe(out).can_resume) == ("finished", False)


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    for i, name in enumerate(("a", "b", "c")):
        run = written(tmp_path / f"{name}.safetensors", STARTED)
        for path in (run.events, run.log, run.path):
            os.utime(path, (1000.0 + i % 2, 1000.0 + i % 2))
    (tmp_path / "note.run").touch()
    newest, *others = [path.name for path in list_runs(tmp_path)]
    assert newest == "b.safetensors" and set(others) == {"a.safetensors", "c.safetensors"}
    assert list_runs(tmp_path / "none") == []


def test_asking_does_not_take_the_lock(out: Path) -> None:
    run = written(out)
    assert not is_held(run.lock)
    file = take(run.lock)
    assert file is not None
    with file:
        assert is_held(run.lock) and is_held(run.lock) and take(run.lock) is None
    assert not is_held(run.lock)


@pytest.mark.skipif(sys.platform == "win32", reason="has no shared locks")
def test_two_who_ask_at_once_do_not_see_each_other(out: Path) -> None:
    import fcntl

    run = written(out)
    run.lock.touch()
    with run.lock.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not is_held(run.lock)
        fcntl.flock(other, fcntl.LOCK_EX)
        assert is_held(run.lock)


def test_a_request_to_a_run_that_was_killed_is_not_for_the_next(
    base: StableDiffusion, images: Path, out: Path
) -> None:
    run = written(out)
    run.stop.touch()
    assert fit(short(images, out, sheet=False), base=base).steps == 4 and not run.stop.exists()


def test_what_was_printed_is_of_this_run(out: Path) -> None:
    assert printed(out) == ""
    run = written(out, STARTED)
    run.output.write_text("step by step\n")
    assert printed(out) == "step by step\n"
    os.utime(run.output, (1000.0, 1000.0))
    assert printed(out) == "", "left by an older run"


def test_the_end_of_a_long_text_is_whole_lines(tmp_path: Path) -> None:
    text = tmp_path / "output.log"
    assert tail(text) == ""
    text.write_text("first line\nsecond\nthird\n")
    assert tail(text) == "first line\nsecond\nthird\n"
    assert tail(text, most=17) == "second\nthird\n"
