"""What every command has in common: help, errors, exit codes, speed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from lorastyle.cli import COMMANDS
from lorastyle.cli.names import parse_size
from lorastyle.errors import ConfigError
from lorastyle.generate import slug

from .conftest import Said

Run = Callable[..., Said]


def test_help_names_every_command_with_its_summary(lorastyle: Run) -> None:
    said = lorastyle("--help")
    assert said.code == 0 and said.err == ""
    words = " ".join(said.out.replace("│", " ").split())
    for name, summary in COMMANDS.items():
        assert f"{name} {summary.split(':')[0]}" in words
    assert lorastyle().out == said.out


def test_every_command_is_a_file(lorastyle: Run) -> None:
    folder = Path(sys.modules["lorastyle.cli"].__file__ or "").parent
    for name in COMMANDS:
        assert (folder / f"{name}.py").exists()
        said = lorastyle(name, "--help")
        assert said.code == 0 and said.out.startswith(f"Usage: lorastyle {name}")


def test_version(lorastyle: Run) -> None:
    assert lorastyle("--version").out == f"{version('lorastyle')}\n"
    said = lorastyle("version")
    assert said.code == 0
    assert f"torch            {version('torch')}\n" in said.out


def test_an_unknown_flag_is_an_error_with_a_near_miss(lorastyle: Run) -> None:
    said = lorastyle("generate", "a cat", "--sede", "7")
    assert said == Said(
        2, "", "error: Unknown option: --sede. Did you mean --seed?\nSee lorastyle generate --help\n"
    )


def test_an_unknown_command_is_an_error_with_a_near_miss(lorastyle: Run) -> None:
    said = lorastyle("generte", "a cat")
    assert (said.code, said.out) == (2, "")
    assert '"generte"' in said.err and '"generate"' in said.err


def test_a_value_that_is_no_number(lorastyle: Run) -> None:
    said = lorastyle("generate", "a cat", "--seed", "seven")
    assert said.code == 2 and "--seed" in said.err and '"seven"' in said.err


def test_a_whole_number_of_too_many_digits(lorastyle: Run) -> None:
    said = lorastyle("generate", "a cat", "--seed", "9" * 5000)
    assert said.code == 2 and said.err.count("\n") == 2  # one sentence is one line
    assert "at most 18 digits are read" in said.err and len(said.err) < 200
    assert "no whole number" not in said.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("train", "./cats"),
            'There is no flag before "./cats". The folder of your pictures is named so: --images',
        ),
        (
            ("generate", "a", "red", "cat"),
            'There is no flag before "red" "cat". A prompt of several words stands in',
        ),
        (("demo", "here"), 'There is no flag before "here".\n'),
    ],
)
def test_words_without_a_flag(lorastyle: Run, arguments: tuple[str, ...], told: str) -> None:
    said = lorastyle(*arguments)
    assert (said.code, said.out) == (2, "") and said.err.startswith(f"error: {told}")


def test_ctrl_c_ends_with_130(lorastyle: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lorastyle.cli.info.read_info", interrupt)
    assert lorastyle("info", "x.safetensors") == Said(130, "", "error: stopped\n")


def test_a_closed_pipe_is_no_crash() -> None:
    command = f"{sys.executable} -m lorastyle version | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("l", "")


def test_info_imports_nothing_heavy(adapter: Path) -> None:
    """What would take longer than all that it does; `benchmarks.load` measures how long that is."""
    code = (
        "import sys; from lorastyle.cli import main; code = main(['info', sys.argv[1]]); "
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(adapter)], check=True, capture_output=True, text=True
    )
    imported = set(done.stderr.split())
    heavy = {"torch", "numpy", "diffusers", "transformers", "accelerate", "huggingface_hub", "gradio", "PIL"}
    assert "lorastyle" in imported and not imported & heavy


def test_a_folder_that_cannot_be_written(lorastyle: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("lorastyle.cli.names.tempfile.TemporaryFile", refused)
    said = lorastyle("demo")
    assert (said.code, said.out) == (1, "")
    assert "this folder cannot be written to (Permission denied). Name another folder." in said.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, (None, None)), ("128", (128, 128)), ("128x96", (128, 96)), ("64X64", (64, 64))],
)
def test_sizes(text: str | None, expected: tuple[int | None, int | None]) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "x", "12x", "-3", "1.5", "10x10x10"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--size is"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A cat, sticker style!", "a-cat-sticker-style"),
        ("猫 と 犬", "猫-と-犬"),
        ("../..", "picture"),
        ("", "picture"),
    ],
)
def test_file_names_from_prompts(text: str, expected: str) -> None:
    assert slug(text) == expected
    assert len(slug(text * 50)) <= 48


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_behind_the_output_is_told(adapter: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "lorastyle", "info", str(adapter)]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1 and "output cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(os.name == "nt", reason="a shell that closes streams")
def test_a_closed_output_is_no_traceback(adapter: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m lorastyle info {shlex.quote(str(adapter))} >&-"
    ended = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)
    assert "Traceback" not in ended.stderr
