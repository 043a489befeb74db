"""The Train tab without a page: plans, names, and what may be started."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorastyle.bases import StableDiffusion
from lorastyle.errors import ConfigError
from lorastyle.train import RunFolder, TrainConfig, make_plan, observe, scan
from lorastyle.train.lock import take
from lorastyle.ui import trainings as module
from lorastyle.ui.trainings import TrainForm, Trainings, name_problems, suggested_trigger
from lorastyle.ui.tray import Tray
from tests.train.running import make_pictures, tiny_base


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return tiny_base()


@pytest.fixture
def trainings(base: StableDiffusion, tmp_path: Path) -> Trainings:
    (tmp_path / "library").mkdir()
    return Trainings(tmp_path / "library", lambda: base, environment={"LORASTYLE_TEST": "1"})


@pytest.fixture
def tray(tmp_path: Path) -> Tray:
    tray = Tray(tmp_path / "tray")
    tray.add(make_pictures(tmp_path / "up").iterdir())
    return tray


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, dict[str, Any]]]:
    """What would have been started."""
    calls: list[tuple[TrainConfig, dict[str, Any]]] = []

    def launch(config: TrainConfig, **more: Any) -> None:
        assert config.out is not None
        calls.append((config, more))
        wrote(Path(config.out), "asked")

    monkeypatch.setattr(module, "launch", launch)
    return calls


def wrote(out: Path, *events: str, **facts: object) -> RunFolder:
    """A run with this journal."""
    run = RunFolder(out)
    run.path.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"event": event, "time": time.time(), **facts}) + "\n" for event in events)
    run.events.write_text("".join(lines))
    return run


def test_the_plan_is_that_of_the_command_line(
    trainings: Trainings, tray: Tray, base: StableDiffusion
) -> None:
    plain = trainings.look(tray, TrainForm())
    assert (plain.name, plain.trigger, plain.problem) == ("my-style", "mystyle", "")
    plan = make_plan(TrainConfig(images=str(tray.folder), trigger="mystyle"), base, scan(tray.folder))
    assert plain.plan is not None and plain.plan.out == trainings.library / "my-style.safetensors"
    assert plain.plan.trigger == "mystyle"
    for key in ("kind", "steps", "rank", "targets", "lr", "batch_size", "pictures"):
        assert getattr(plain.plan, key) == getattr(plan, key)
    assert [verdict.verdict for verdict in plain.verdicts] == ["used"] * 3
    assert plain.verdicts[0].prompt == plain.plan.example

    form = TrainForm("My Ball", "", "style", "", 30, 2)
    asked = trainings.look(tray, form)
    assert asked.plan is not None and asked.trigger == "myball"
    assert (asked.plan.kind, asked.plan.steps, asked.plan.rank) == ("style", 30, 2)
    assert (plan.steps, plan.rank) != (30, 2)
    assert asked.verdicts[0].prompt.endswith("myball style")
    named = trainings.look(tray, TrainForm(trigger="blob", kind="subject", class_name="ball"))
    assert named.verdicts[0].prompt == "a blob ball"


def test_fields_that_cannot_be_used_are_all_told(trainings: Trainings, tray: Tray) -> None:
    prospect = trainings.look(tray, TrainForm("a/b", "x,y", "", "", 0, 9999))
    assert prospect.plan is None and len(prospect.verdicts) == 3
    for said in ('"a/b" cannot be a name', "trigger =", "steps = 0", "rank = 9999"):
        assert said in prospect.problem
    with pytest.raises(ConfigError, match="cannot be a name"):
        trainings.start(tray, TrainForm("a/b"))
    assert not list(trainings.library.iterdir())


def test_without_pictures_there_is_nothing_to_start(trainings: Trainings, tmp_path: Path) -> None:
    empty = Tray(tmp_path / "empty")
    assert trainings.look(empty, TrainForm()).problem == ""
    with pytest.raises(ConfigError, match="no pictures yet"):
        trainings.start(empty, TrainForm())
    (tmp_path / "x.png").write_bytes(b"broken")
    empty.add([tmp_path / "x.png"])
    assert "None of these" in trainings.look(empty, TrainForm()).problem
    with pytest.raises(ConfigError, match="None of these"):
        trainings.start(empty, TrainForm())


@pytest.mark.parametrize("name", ["ink", "My Ink 2", "größe", "a", "x_1-y"])
def test_names_that_can_be(name: str) -> None:
    assert name_problems(name) == []


@pytest.mark.parametrize(
    "name",
    ["../ink", "a/b", "a\\b", ".hidden", "con", "LPT1", "a:b", "a.b", " a", "a-", "", "a" * 65, "a\nb"],
)
def test_names_that_cannot_be(name: str) -> None:
    (problem,) = name_problems(name)
    better = problem.rsplit('"', 2)[1]
    assert name_problems(better) == [], "what is proposed can be"


def test_names_have_a_length_and_one_line() -> None:
    assert all(map(name_problems, ("", "a" * 65, "a\nb"))) and not name_problems("a" * 64)


def test_triggers_are_proposed_as_for_a_folder() -> None:
    names = {"My Cat (2)": "mycat2", "images": "mystyle", "": "mystyle", "a/b": "ab", "../..": "mystyle"}
    assert {name: suggested_trigger(name) for name in names} == names


def test_a_start_keeps_the_pictures_beside_the_run(
    trainings: Trainings, tray: Tray, launched: list[tuple[TrainConfig, dict[str, Any]]]
) -> None:
    assert trainings.start(tray, TrainForm("Ball", "blob", steps=7)) == "Ball"
    ((config, more),) = launched
    pictures = trainings.library / "Ball.run" / "pictures"
    assert (config.images, config.out) == (str(pictures), str(trainings.library / "Ball.safetensors"))
    assert (config.name, config.trigger, config.steps, config.base) == ("Ball", "blob", 7, "tiny")
    assert sorted(file.name for file in pictures.iterdir()) == ["ball0.png", "ball1.png", "ball2.png"]
    assert more == {"environment": {"LORASTYLE_TEST": "1"}} and len(tray) == 3
    assert trainings.names() == trainings.active() == ["Ball"]
    with pytest.raises(ConfigError, match="Ball is being trained"):
        trainings.start(tray, TrainForm("other"))
    with pytest.raises(ConfigError, match="Ball is being trained"):
        trainings.go_on("Ball")
    assert len(launched) == 1 and not (trainings.library / "other.run").exists()


def test_a_whole_adapter_is_not_replaced_and_half_a_one_is(
    trainings: Trainings, tray: Tray, launched: list[tuple[TrainConfig, dict[str, Any]]]
) -> None:
    out = trainings.library / "ball.safetensors"
    out.write_bytes(b"somebody's")

    def refused() -> str:
        with pytest.raises(ConfigError, match='There is an adapter "ball"') as error:
            trainings.start(tray, TrainForm("ball"))
        return str(error.value)

    assert '"ball-2"' in refused()
    wrote(out, "started", "failed")
    refused()
    wrote(out, "started", "finished", adapter="../ball.safetensors", interrupted=False)
    refused()
    run = wrote(out, "started", "finished", adapter="stopped.safetensors", interrupted=True)
    run.stopped.touch()
    assert observe(out).state == "stopped"
    refused()
    assert launched == []
    wrote(out, "started", "finished", adapter="../ball.safetensors", interrupted=True)
    trainings.start(tray, TrainForm("ball"))
    assert len(launched) == 1
    assert trainings.look(tray, TrainForm()).name == "my-style"
    (trainings.library / "my-style.safetensors").touch()
    assert trainings.look(tray, TrainForm()).name == "my-style-2"


def test_runs_are_called_by_names_that_are_there(trainings: Trainings, tmp_path: Path) -> None:
    outside = wrote(tmp_path / "outside.safetensors", "started", "begun")
    lock = take(outside.lock)
    assert lock is not None
    with lock:
        for name in ("../outside", str(tmp_path / "outside"), "", "."):
            assert trainings.status(name) is None and trainings.printed(name) == ""
            assert not trainings.stop(name)
            with pytest.raises(ConfigError, match="no such training"):
                trainings.go_on(name)
        assert not outside.stop.exists()

        inside = wrote(trainings.library / "in.safetensors", "started", "begun")
        lock_inside = take(inside.lock)
        assert lock_inside is not None
        with lock_inside:
            status = trainings.status("in")
            assert status is not None and status.state == "training"
            assert trainings.stop("in") and inside.stop.exists()


def test_what_is_printed_has_no_paths(trainings: Trainings) -> None:
    run = wrote(trainings.library / "in.safetensors", "asked")
    run.output.write_text(f"adapter {run.adapter}\n")
    assert trainings.printed("in") == "adapter in.safetensors\n"


def test_the_shelf_tells_of_changes(trainings: Trainings) -> None:
    def changed(by: Callable[[], object]) -> bool:
        before = trainings.shelf()
        by()
        return trainings.shelf() != before

    out = trainings.library / "a.safetensors"
    assert changed(out.touch) and not changed(lambda: None)
    assert changed(lambda: out.write_bytes(b"more"))
    assert not changed((trainings.library / "note.txt").touch) and changed(out.unlink)
    assert Trainings(trainings.library / "none", tiny_base).shelf() == ""
