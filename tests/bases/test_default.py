from __future__ import annotations

from pathlib import Path

import pytest

from lorastyle.bases import FOR_TRAINING, default_base, default_memory
from lorastyle.errors import ConfigError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("LORASTYLE_BASE", raising=False)
    monkeypatch.setenv("LORASTYLE_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_the_nearest_word_counts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_base() == "embedded"
    (here / "home" / "lorastyle.toml").write_text('base = "org/at-home"\n')
    assert default_base() == "org/at-home"
    (here / "here" / "lorastyle.toml").write_text('base = "org/here"\n')
    assert default_base() == "org/here"
    monkeypatch.setenv("LORASTYLE_BASE", "org/environment")
    assert default_base() == "org/environment"
    monkeypatch.setenv("LORASTYLE_BASE", "")
    assert default_base() == "org/here"


def test_a_path_starts_at_the_file(here: Path) -> None:
    (here / "home" / "model.safetensors").touch()
    (here / "home" / "lorastyle.toml").write_text('base = "./model.safetensors"\n')
    assert Path(default_base()) == here / "home" / "model.safetensors"


def test_a_file_without_a_base_says_nothing(here: Path) -> None:
    (here / "here" / "lorastyle.toml").write_text("")
    assert default_base() == "embedded"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('bas = "x"', 'bas is no key.*Did you mean "base"'),
        ('base = "C:\\Users\\me\\m.safetensors"', "single quotes"),
        ("base = 3", "base is 3; a text is needed"),
        ('base = ""', "a text is needed"),
        ("base = ", "is not valid TOML"),
        ('memory = "int9"', r"memory is 'int9'; allowed are auto, .*Did you mean \"int8\""),
        ("memory = 8", "memory is 8; allowed are"),
    ],
)
def test_what_cannot_be_used_is_told(here: Path, text: str, said: str) -> None:
    (here / "here" / "lorastyle.toml").write_text(text)
    for default in (default_base, default_memory):
        with pytest.raises(ConfigError, match=said):
            default()


def test_memory_has_its_own_word_in_the_same_files(here: Path) -> None:
    assert default_memory() == "auto"
    (here / "home" / "lorastyle.toml").write_text('memory = "int8"\nbase = "org/at-home"\n')
    assert (default_memory(), default_base()) == ("int8", "org/at-home")
    (here / "here" / "lorastyle.toml").write_text('base = "org/here"\n')
    assert (default_memory(), default_base()) == ("int8", "org/here")
    (here / "here" / "lorastyle.toml").write_text('memory = "sequential"\n')
    assert (default_memory(), default_base()) == ("sequential", "org/at-home")
    # what only draws says nothing of training
    assert default_memory(FOR_TRAINING) == "auto"
