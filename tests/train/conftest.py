"""What the tests of short runs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorastyle.bases import StableDiffusion
from lorastyle.train import draw as draw_module
from tests.train.running import make_pictures, tiny_base


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache of its own, and pictures in two steps."""
    monkeypatch.setenv("LORASTYLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(draw_module, "STEPS", 2)


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return tiny_base()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "balls")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made" / "ink.safetensors"
