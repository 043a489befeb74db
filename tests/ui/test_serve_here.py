"""`serve` in this process, with a stand-in for gradio's part: what paths mean, and what is changed."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lorastyle.train import TrainConfig
from lorastyle.ui import serve as serve_page
from lorastyle.ui import trainings as trainings_module
from lorastyle.ui.serve import Options
from lorastyle.ui.trainings import TrainForm, Trainings
from lorastyle.ui.tray import Tray
from tests.tiny import tiny_pipeline
from tests.train.running import make_pictures

ENVIRONMENT = (
    *("GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE"),
    *("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a base and settings, to which relative paths lead."""
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    (tmp_path / "lorastyle.toml").write_text('memory = "int8"\n')
    monkeypatch.chdir(tmp_path)
    for variable in ENVIRONMENT:
        monkeypatch.setenv(variable, os.environ.get(variable, ""))  # put back in the end
    return tmp_path


@pytest.mark.parametrize("base", ["./tiny", "tiny"])
def test_a_base_and_a_memory_mode_of_this_folder_are_trained_with(
    here: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    asked: list[tuple[TrainConfig, dict[str, Any]]] = []
    page = SimpleNamespace(local_url="http://x/", share_url=None, server=SimpleNamespace(), close=dict)
    state = (os.getcwd(), tempfile.gettempdir(), list(warnings.filters), warnings.showwarning)

    def launch(options: Options, studio: Any, trainings: Trainings, visitors: Any) -> Any:
        tray = Tray(here / "tray")
        tray.add(make_pictures(here / "up").iterdir())
        trainings.start(tray, TrainForm(name="mine"))
        assert (os.getcwd(), tempfile.gettempdir(), list(warnings.filters), warnings.showwarning) == state
        return page

    monkeypatch.setattr(import_module("lorastyle.ui.serve"), "launch", launch)

    def launch_training(config: TrainConfig, **more: Any) -> None:
        asked.append((config, more))

    monkeypatch.setattr(trainings_module, "launch", launch_training)
    monkeypatch.setenv("LORASTYLE_AUTH", "me:secret")
    try:
        serve_page(Options(base=base), lambda address, shared: None)
    finally:
        logging.getLogger("uvicorn.error").disabled = False
    ((config, more),) = asked
    assert config.base == str(here / "tiny") and config.memory == "int8"
    assert Path(config.out or "") == here / "adapters" / "mine.safetensors"
    assert more["environment"]["LORASTYLE_AUTH"] == ""
