"""`lorastyle library`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from lorastyle.adapters import model_hash

from .conftest import Said, write_adapter

Run = Callable[..., Said]


def test_from_adding_to_putting_back(lorastyle: Run, adapter: Path, tmp_path: Path) -> None:
    file = write_adapter(tmp_path / "downloads" / "cat.safetensors", seed=1, trigger="a\x1b[31mcat")
    assert lorastyle("library", "add", file).code == 0
    assert lorastyle("library", "tag", "cat", "cute", "animal").out == "cute, animal\n"
    said = lorastyle("library", "ls")
    sizes = [f"{path.stat().st_size / 1e3:.1f}" for path in (file, adapter)]
    assert [line.split() for line in said.out.splitlines()] == [
        ["name", "base", "rank", "size", "trigger", "tags"],
        ["cat", "sd-16", "2", sizes[0], "KB", "a", "[31mcat", "cute,", "animal"],
        ["dots", "sd-16", "2", sizes[1], "KB", "dots"],
    ]
    assert lorastyle("library", "rename", "cat", "tom").code == 0
    (told,) = json.loads(lorastyle("library", "ls", "--tag", "cute", "--json").out)
    assert told["name"] == "tom" and told["hash"] == model_hash(file) and told["bytes"] == file.stat().st_size
    assert "lorastyle library restore tom" in lorastyle("library", "rm", "tom").out
    assert "tom" in lorastyle("library", "restore").out and "tom" not in lorastyle("library", "ls").out
    assert lorastyle("library", "restore", "tom").code == 0
    listed = lorastyle("library", "ls", "T*").out
    assert "tom" in listed and "dots" not in listed
    assert lorastyle("library", "restore") == Said(0, "The trash is empty.\n", "")


def test_an_empty_library(lorastyle: Run) -> None:
    said = lorastyle("library", "ls")
    assert said.code == 0 and "library add FILE" in said.err and not said.out
    assert json.loads(lorastyle("library", "ls", "--json").out) == []


def test_what_cannot_be_used_is_listed_too(lorastyle: Run, adapter: Path) -> None:
    adapter.write_bytes(adapter.read_bytes()[:-4])
    said = lorastyle("library", "ls")
    assert "not usable" in said.out and "cut short" in said.out and "lorastyle info" in said.err


@pytest.mark.parametrize("width", [20, 40, 60, 100, 200])
def test_the_list_fits_the_terminal(
    lorastyle: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    trigger = "a rather long trigger word for one adapter"
    for seed, name in enumerate(("cat", "猫" * 20, "an adapter with a name of some length")):
        write_adapter(tmp_path / "adapters" / f"{name}.safetensors", seed=seed, trigger=trigger)
    lorastyle("library", "tag", "cat", "cute", "animal", "of the house")
    piped = lorastyle("library", "ls").out
    assert "猫" * 20 in piped and trigger in piped and "cute, animal, of the house" in piped
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("lorastyle.cli.columns._terminal", lambda: True)
    shown = lorastyle("library", "ls").out.splitlines()
    assert max(map(cell_len, shown)) <= width and len(shown) == 4
    assert ("..." in "".join(shown)) == (width < 150)
    assert ("cute, animal, of the house" in "".join(shown)) == (width >= 150)
    sizes = {line.index("KB") for line in shown if line.startswith(("cat", "an adap")) and "KB" in line}
    assert len(sizes) == (1 if width >= 60 else 0)


def test_a_strangers_million_letters(lorastyle: Run, tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapters" / "cat.safetensors", trigger="x" * 1_000_000)
    assert len(lorastyle("library", "ls").out) < 300
    assert len(json.loads(lorastyle("library", "ls", "--json").out)[0]["trigger"]) == 1_000_000


def test_why_nothing_is_listed(lorastyle: Run, adapter: Path) -> None:
    lorastyle("library", "tag", "dots", "cute")
    for words, hint in {
        ("dotz",): 'Did you mean "dots"?',
        ("--tag", "cut"): 'Did you mean "cute"?',
        ("--tag", "xyz"): 'There is no tag "xyz".',
        ("--base", "sd16"): 'Did you mean "sd-16"?',
        ("--base", "sd-16", "--tag", "cute", "c*"): "None of the 1 adapters",
    }.items():
        said = lorastyle("library", "ls", *words)
        assert said.code == 0 and said.out == "" and hint in said.err, words


def test_what_is_refused_does_not_keep_others_out(lorastyle: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"<html>")
    write_adapter(tmp_path / "good.safetensors")
    said = lorastyle("library", "add", "bad.safetensors", "missing.safetensors", "good.safetensors")
    assert said.code == 1 and said.out == "home/adapters/good.safetensors\n"
    assert "bad.safetensors: this is a web page" in said.err and "missing.safetensors: no such" in said.err


def test_all_of_them_or_none(lorastyle: Run, adapter: Path) -> None:
    assert lorastyle("library", "rm", "dots", "nope").code == 1
    assert adapter.exists()
    adapter.with_suffix(".run").mkdir()
    assert "dots.run" in lorastyle("library", "rm", "dots").err and not adapter.exists()


def test_errors_are_one_line(lorastyle: Run, adapter: Path) -> None:
    for words in (
        ("rm", "nope"),
        ("rename", "dots", "a/b"),
        ("restore", "nope"),
        ("tag", "dots", "a,b"),
        ("add", "nope.safetensors"),
        ("add",),
        ("rm",),
        ("add", "a", "b", "--name", "c"),
    ):
        said = lorastyle("library", *words)
        assert said.code in (1, 2) and said.out == "" and said.err.startswith("error: "), words
    assert adapter.exists()
    assert lorastyle("library", "lss").code == 2
