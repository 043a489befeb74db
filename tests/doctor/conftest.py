from __future__ import annotations

import pytest

from lorastyle.bases import StableDiffusion
from tests.tiny import tiny_pipeline


@pytest.fixture
def tiny_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of one megabyte in the place of the embedded base."""

    def load(name: str) -> StableDiffusion:
        assert name == "embedded"
        return StableDiffusion(tiny_pipeline(), name=name)

    monkeypatch.setattr("lorastyle.bases.load_base", load)
    monkeypatch.setattr("lorastyle.train.draw.STEPS", 2)
