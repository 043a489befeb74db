from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lorastyle.generate import Engine
from lorastyle.ui.shelf import Shelf
from lorastyle.ui.studio import Studio
from lorastyle.ui.visitors import Visitors
from tests.generate.conftest import base, engine, make_adapter

__all__ = ["base", "engine", "make_adapter", "studio", "visitors"]

MakeAdapter = Callable[..., Path]


@pytest.fixture
def studio(engine: Engine, tmp_path: Path) -> Studio:
    """Draws with the adapters that `make_adapter` writes; pictures go to `out`."""
    shelf = Shelf([tmp_path], engine.base.family, engine.base.name)
    return Studio(engine, shelf, out=tmp_path / "out")


@pytest.fixture
def visitors(tmp_path: Path) -> Visitors:
    root = tmp_path / "visitors"
    root.mkdir()
    return Visitors(root)
