from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

lorastyle: Any = import_module("lorastyle")


def test_all_is_sorted_and_every_name_is_there() -> None:
    assert lorastyle.__all__ == sorted(lorastyle.__all__)
    for name in lorastyle.__all__:
        assert getattr(lorastyle, name) is not None
    assert set(lorastyle.__all__) <= set(dir(lorastyle))


def test_public_names_are_the_rooms_own() -> None:
    from lorastyle import adapters, bank, bases, errors, generate

    rooms = (adapters, bank, bases, errors, generate)
    for name in set(lorastyle.__all__) - {"__version__"}:
        homes = [room for room in rooms if hasattr(room, name)]
        assert any(getattr(room, name) is getattr(lorastyle, name) for room in homes), name


def test_every_error_is_public() -> None:
    from lorastyle import errors

    raised = {
        n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, errors.LorastyleError)
    }
    assert raised <= set(lorastyle.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_bas'"):
        _ = getattr(lorastyle, "load_bas")  # noqa: B009


def test_what_must_be_instant_does_not_import_torch() -> None:
    code = """
import sys, lorastyle
lorastyle.GenerateRequest("a cat", adapters=(lorastyle.AdapterUse.parse("cat:0.8"),))
lorastyle.read_info, lorastyle.read_request, lorastyle.read_settings
lorastyle.save_picture, lorastyle.BaseError
heavy = {"torch", "diffusers", "transformers", "peft", "gradio"} & set(sys.modules)
assert not heavy, heavy
lorastyle.Engine
assert "torch" in sys.modules
assert not {"peft", "gradio"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
