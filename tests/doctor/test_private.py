"""What is pasted in public names no one."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

import pytest

from lorastyle.doctor import Problem, Settings, private

JANE = "jane-doe-9f2"
TOKEN = "hf_" + "a1B2" * 8


@pytest.fixture(autouse=True)
def jane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "homes" / JANE
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setattr(getpass, "getuser", lambda: JANE)
    monkeypatch.setattr(socket, "gethostname", lambda: "janes-laptop.example.org")
    monkeypatch.setenv("HF_TOKEN", "no-usual-token-9f2")
    return home


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("{home}/a.png is gone", "~/a.png is gone"),
        ("'{home}'", "'~'"),
        ("{home}-old/a.png", "{home}-old/a.png"),  # another folder than the home
        (f"/media/{JANE}/disk", "/media/<user>/disk"),
        (f"C:\\Users\\{JANE}\\x", "C:\\Users\\<user>\\x"),
        ("no route to janes-laptop.example.org:80", "no route to <host>:80"),
        ("on janes-laptop", "on <host>"),
        ("refused: no-usual-token-9f2", "refused: <token>"),
        (f"Bearer {TOKEN}", "Bearer <token>"),
        ("torch 2.13, /opt/models", "torch 2.13, /opt/models"),
    ],
)
def test_a_text(text: str, clean: str, jane: Path) -> None:
    assert private(text.replace("{home}", str(jane))) == clean.replace("{home}", str(jane))


def test_everything_inside_is_cleaned(jane: Path) -> None:
    settings = Settings({"HF_HOME": f"{jane}/hf", "OMP_NUM_THREADS": "2"}, hub_offline=True)
    cleaned = private((settings, Problem(f"{jane} is full", "Free it."), 3, None))
    assert cleaned == (
        Settings({"HF_HOME": "~/hf", "OMP_NUM_THREADS": "2"}, hub_offline=True),
        Problem("~ is full", "Free it."),
        3,
        None,
    )


def test_a_home_that_every_path_starts_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    assert private("/opt/models") == "/opt/models"


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch, jane: Path) -> None:
    def nobody() -> str:
        raise KeyError("uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert private(f"{jane}/a.png") == "~/a.png"
