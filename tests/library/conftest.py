"""A library of small adapters in a home of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lorastyle.adapters import save_adapter
from tests.adapters.examples import mixed_adapter

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("LORASTYLE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def make(home: Path) -> Make:
    """Write an adapter into a folder: the library's, if none is named."""

    def write(name: str, *, seed: int = 0, folder: Path | None = None, **metadata: str) -> Path:
        adapter = mixed_adapter(name, seed=seed)
        keys = {key.replace("__", "."): value for key, value in metadata.items()}
        path = (folder or home / "adapters") / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        return save_adapter(replace(adapter, metadata={**adapter.metadata, **keys}), path)

    return write
