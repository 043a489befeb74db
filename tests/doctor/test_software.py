"""Versions, ranges and extras, read from a distribution that is made for it."""

from __future__ import annotations

import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest

from lorastyle.doctor import Package, look_at_software

METADATA = """\
Metadata-Version: 2.4
Name: madestyle
Version: 1.2
Requires-Dist: torch>=2
Requires-Dist: pillow<2,>=1
Requires-Dist: not-there-9f2>=3
Requires-Dist: not-for-this-python; python_version < "3"
Requires-Dist: gradio-9f2<7,>=6.31; extra == "ui"
Requires-Dist: nodes-9f2[all]; extra == "mine"
Requires-Dist: torch; extra == "mine"
Requires-Dist: torch>=2; extra == "base"
Provides-Extra: mine
Provides-Extra: base
Provides-Extra: ui
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "madestyle-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(METADATA)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return "madestyle"


def test_packages_are_those_that_are_declared(made: str) -> None:
    found = look_at_software(made)
    assert found.lorastyle == "1.2"
    assert found.packages == (
        Package("torch", version("torch"), ">=2", fits=True),
        Package("pillow", version("pillow"), ">=1,<2", fits=False),
        Package("not-there-9f2", None, ">=3", fits=False),
    )


def test_missing_extras_come_with_their_command(made: str) -> None:
    ui, base, mine = look_at_software(made).extras  # those with a known purpose first
    assert (ui.name, ui.command) == ("ui", 'pip install "gradio-9f2>=6.31,<7"')
    assert (base.name, base.missing, base.command) == ("base", (), "")
    assert (mine.name, mine.missing, mine.purpose) == ("mine", ("nodes-9f2[all]",), "")
    assert mine.command == 'pip install "nodes-9f2[all]"'


def test_lorastyle_itself() -> None:
    found = look_at_software()
    assert found.lorastyle == version("lorastyle")
    declared = [text for text in requires("lorastyle") or () if ";" not in text]
    assert len(found.packages) >= len(declared) > 8
    assert {"ui", "dev"} <= {extra.name for extra in found.extras}


def test_what_is_not_installed_has_no_packages() -> None:
    found = look_at_software("not-there-9f2")
    assert found.lorastyle is None and found.packages == found.extras == ()
