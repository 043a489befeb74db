"""For every test."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

# The models here are tiny: a second thread costs more than it brings, and 30 times more where cores are busy.
if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:  # pyright: ignore[reportUnusedFunction]
    """No test reads or writes what belongs to whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("LORASTYLE_HOME", str(home))
        yield home
