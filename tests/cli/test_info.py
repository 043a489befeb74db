"""`lorastyle info`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from lorastyle.adapters import read_info
from lorastyle.generate import AdapterUse, GenerateRequest, Picture, save_picture

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


def test_info_of_a_name_in_the_library(lorastyle: Run, adapter: Path, tmp_path: Path) -> None:
    assert lorastyle("info", "dots") == Said(0, read_info(adapter).describe() + "\n", "")
    said = lorastyle("info", "dits")
    assert (said.code, said.out) == (1, "") and 'Did you mean "dots"?' in said.err
    (tmp_path / "letter").write_text("Dear reader,")
    said = lorastyle("info", "letter")  # what is there is told of, whatever it is
    assert said.code == 1 and said.err.startswith("error: letter: ")


def test_a_file_that_is_missing(lorastyle: Run) -> None:
    assert lorastyle("info", "nothing.safetensors") == Said(
        1, "", "error: nothing.safetensors: no such file.\n"
    )


def test_a_file_that_is_no_adapter(lorastyle: Run, tmp_path: Path) -> None:
    (tmp_path / "letter.safetensors").write_text("Dear reader,")
    said = lorastyle("info", "letter.safetensors")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: letter.safetensors: ") and said.err.count("\n") == 1


def test_info_says_what_drew_a_picture(lorastyle: Run, tmp_path: Path) -> None:
    request = GenerateRequest(
        "a \x1b[31mcat\nsits", adapters=(AdapterUse("/home/me/ink", 0.5, "0" * 12),), seed=7, base="embedded"
    )
    path = save_picture(Picture(Image.new("RGB", (8, 8)), request), tmp_path / "my cat.webp")
    said = lorastyle("info", path)
    assert said.code == 0 and "\x1b" not in said.out
    assert r"prompt:           a \x1b[31mcat\nsits" in said.out
    assert "adapters:         ink:0.5 (000000000000)\n" in said.out and "seed:             7\n" in said.out
    assert said.out.endswith("Draw it again: lorastyle generate --like 'my cat.webp'\n")
    assert said.err == "note: The adapter 'ink' (weights 000000000000) is not in the library.\n"
    found = json.loads(lorastyle("info", path, "--json").out)
    assert GenerateRequest.from_dict(found["request"]).seed == 7
    assert found["remarks"] == ["The adapter 'ink' (weights 000000000000) is not in the library."]


def test_a_picture_without_settings(lorastyle: Run, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    said = lorastyle("info", "a.png")
    assert (said.code, said.out) == (1, "")
    assert (
        said.err.startswith("error: a.png: there is no request in this picture") and said.err.count("\n") == 1
    )


def test_info_of_an_adapter_imports_nothing_slow(lorastyle: Run, adapter: Path) -> None:
    slow = ("torch", "numpy", "PIL", "lorastyle.generate", "huggingface_hub")
    command = f"from lorastyle.cli import main; main(['info', {str(adapter)!r}])"
    code = f"import sys; {command}; print([name for name in {slow} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()[-1] == "[]"


def test_info_of_a_picture_does_not_import_torch(lorastyle: Run, tmp_path: Path) -> None:
    request = GenerateRequest("a", adapters=(AdapterUse("ink", 0.5, "0" * 12),), base="/x/model")
    path = save_picture(Picture(Image.new("RGB", (8, 8)), request), tmp_path / "a.png")
    command = f"from lorastyle.cli import main; main(['info', {str(path)!r}])"
    code = f"import sys; {command}; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()[-1] == "False"
