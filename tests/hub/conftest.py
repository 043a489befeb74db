"""A Hub on this machine, and an adapter."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from lorastyle.adapters import Adapter, save_adapter
from tests.adapters.examples import low_rank
from tests.stand_in import StandIn, point_at, stand_in

TO_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="session")
def served() -> Generator[StandIn]:
    with stand_in() as hub:
        yield hub


@pytest.fixture
def hub(served: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A Hub without a model, a cache that is empty, and no token."""
    point_at(served, tmp_path, monkeypatch)
    return served


def write_adapter(
    path: Path, metadata: Mapping[str, str] = {}, *, seed: float = 2.0, format: str = "kohya"
) -> Path:
    """One for SD 1.x, of one module."""
    own = {"lorastyle.base": "sd1", "lorastyle.trigger": "ink style", **metadata}
    path.parent.mkdir(parents=True, exist_ok=True)
    adapter = Adapter("ink", {"unet": {TO_Q: low_rank((640, 640), 4, seed)}}, own)
    return save_adapter(adapter, path, format=format, private=True)


@pytest.fixture
def repository(hub: StandIn, tmp_path: Path) -> Path:
    """The folder behind "ada/inks" on the Hub, with nothing in it."""
    folder = tmp_path / "ada-inks"
    folder.mkdir()
    hub.models["ada/inks"] = folder
    return folder
