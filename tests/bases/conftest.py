from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_pipeline


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline's folder in float16; tests that damage it take `copy`."""
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    tiny_pipeline().to(torch.float16).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))
