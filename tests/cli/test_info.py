"""`lorastyle info`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from lorastyle.adapters import read_info

from .conftest import Said

Run = Callable[..., Said]


def test_info_says_what_is_in_a_file(lorastyle: Run, adapter: Path) -> None:
    said = lorastyle("info", adapter)
    assert said == Said(0, read_info(adapter).describe() + "\n", "")
    assert '"dots": put it into the prompt' in said.out
    assert "2 (2 modules)" in said.out  # rank


def test_info_as_json(lorastyle: Run, adapter: Path) -> None:
    said = lorastyle("info", adapter, "--json")
    assert said.code == 0
    assert json.loads(said.out) == json.loads(json.dumps(read_info(adapter).as_dict()))
    assert json.loads(said.out)["trigger"] == "dots"


def test_a_file_that_is_missing(lorastyle: Run) -> None:
    assert lorastyle("info", "nothing.safetensors") == Said(
        1, "", "error: nothing.safetensors: no such file.\n"
    )


def test_a_file_that_is_no_adapter(lorastyle: Run, tmp_path: Path) -> None:
    (tmp_path / "letter.safetensors").write_text("Dear reader,")
    said = lorastyle("info", "letter.safetensors")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: letter.safetensors: ") and said.err.count("\n") == 1
