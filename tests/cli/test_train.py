"""`lorastyle train` and `lorastyle demo`, on a tiny base."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

from lorastyle.adapters import read_info
from lorastyle.cli.train import train
from lorastyle.cli.training import Narrator
from lorastyle.train import TrainConfig

from .conftest import Said

Run = Callable[..., Said]
SMALL = ("--rank", 2, "--batch-size", 1, "--targets", "attention", "--sample-prompts", "a {trigger}")
QUICK = ("--steps", 2, *SMALL)


def test_flags_are_the_settings_of_the_config() -> None:
    flags = set(inspect.signature(train).parameters) - {"config", "resume"}
    assert flags == {f.name for f in fields(TrainConfig)}


def test_a_folder_becomes_an_adapter_and_the_next_command_draws_with_it(
    lorastyle: Run, tiny_base: str, pictures: Path
) -> None:
    said = lorastyle("train", "--images", pictures, *QUICK)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0] == f"base: {tiny_base}"
    assert any(line.split() == ["pictures", "3", "used,", "1", "dropped"] for line in lines)
    assert any("broken.png" in line and line.split()[0] == "dropped" for line in lines)
    assert any(line.startswith("training 2/2  loss ") for line in lines)
    assert Path("adapters/dots.safetensors").is_file()
    assert read_info("adapters/dots.safetensors").trigger == "dots"
    with Image.open("adapters/dots.sheet.png") as sheet:
        assert sheet.width > 300
    assert "sheet    adapters/dots.sheet.png" in said.out

    command = shlex.split(lines[-1].removeprefix("next: "))
    assert command[:2] == ["lorastyle", "generate"]
    assert lorastyle(*command[1:], "--steps", 2).code == 0
    assert len(list(Path("pictures").glob("*.png"))) == 1


def test_the_settings_written_train_again(lorastyle: Run, tiny_base: str, pictures: Path) -> None:
    assert lorastyle("train", "--images", pictures, *QUICK, "--out", "one/dots.safetensors").code == 0
    said = lorastyle("train", "--config", "one/dots.toml", "--out", "two/dots.safetensors")
    assert said.code == 0, said.err
    one, two = (TrainConfig.from_toml(f"{folder}/dots.toml").to_toml() for folder in ("one", "two"))
    assert one != two and one.replace("/one/", "/two/") == two


def test_ctrl_c_saves_and_says_how_to_go_on(
    lorastyle: Run, tiny_base: str, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = Narrator.__call__

    def interrupted(self: Narrator, event: object) -> None:
        tell(self, event)  # pyright: ignore[reportArgumentType]
        if getattr(event, "step", None) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Narrator, "__call__", interrupted)
    said = lorastyle("train", "--images", pictures, "--steps", 6, *SMALL)
    assert said.code == 130
    assert "Stopped at step 2 of 6" in said.err and "--resume" in said.err
    assert Path("adapters/dots.safetensors").is_file()
    monkeypatch.setattr(Narrator, "__call__", tell)
    command = said.err.split("Go on with: ")[1].strip().splitlines()[0]
    said = lorastyle(*shlex.split(command)[1:])
    assert said.code == 0, said.err
    assert "training 3/6" in said.out and "training 6/6" in said.out and "training 2/6" not in said.out


def test_unknown_flags_and_keys_are_errors_with_a_near_miss(lorastyle: Run, pictures: Path) -> None:
    said = lorastyle("train", "--images", pictures, "--stesp", 3)
    assert said == Said(
        2, "", "error: Unknown option: --stesp. Did you mean --steps?\nSee lorastyle train --help\n"
    )
    Path("run.toml").write_text('images = "dots"\nstesp = 3\nranks = "x"\nlr = "fast"\n')
    said = lorastyle("train", "--config", "run.toml")
    assert said == Said(
        1,
        "",
        'error: run.toml: stesp is no setting. Did you mean "steps"?\n'
        'run.toml: ranks is no setting. Did you mean "rank"?\n'
        'run.toml: lr = "fast": must be a number, such as lr = 0.0001.\n',
    )


def test_every_bad_value_is_told_at_once(lorastyle: Run) -> None:
    said = lorastyle("train", "--images", ".", "--steps", 0, "--resolution", 65, "--lr", 99)
    assert (said.code, said.out) == (1, "")
    assert "steps = 0" in said.err and "resolution = 65" in said.err and "lr = 99" in said.err


def test_a_missing_folder(lorastyle: Run, tiny_base: str, tmp_path: Path) -> None:
    said = lorastyle("train", "--images", "nowhere")
    assert said == Said(
        1,
        f"base: {tiny_base}\n",
        f'error: images: there is no folder "{tmp_path / "nowhere"}". '
        "Name a folder of pictures: --images ./cat/\n",
    )
    assert lorastyle("train").code == 1


def test_an_empty_folder_and_one_with_nothing_that_works(
    lorastyle: Run, tiny_base: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    said = lorastyle("train", "--images", "empty")
    assert said.code == 1
    assert said.err.startswith(
        f'error: No picture in "{tmp_path / "empty"}" can be used:\n  the folder is empty\n'
    )
    (tmp_path / "empty" / "broken.jpg").write_bytes(b"")
    said = lorastyle("train", "--images", "empty")
    assert said.code == 1 and "  broken.jpg: " in said.err
    assert not Path("adapters").exists()


def test_it_names_the_embedded_base_first() -> None:
    from lorastyle.cli.console import base_line

    expected = "base: embedded icons (128 px) — for photographs: --base FILE, a folder or org/model"
    assert base_line("embedded") == expected
    assert base_line("org/model") == "base: org/model"


def test_the_demo_makes_a_sheet_and_pictures(
    lorastyle: Run, tiny_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = lorastyle("demo", "--out", "show", "--steps", 2)
    assert said.code == 0, said.err
    assert Path("show/sticker.safetensors").is_file()
    assert "Look at show/sticker.sheet.png" in said.out
    assert len(list(Path("show/pictures").glob("*.png"))) == 3
    assert "pictures        12 used\n" in said.out
    assert sys.stdout.isatty() or "\r" not in said.out
