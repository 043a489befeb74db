"""What an editable install forgives and a wheel does not."""

from __future__ import annotations

import importlib
import re
import runpy
import sys
from glob import glob
from pathlib import Path
from typing import Any

import pytest

from lorastyle.samples import NAMES, folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
TOPS = ("lorastyle", "train", "ui", "samples")


def shipped() -> dict[str, Path]:
    moved: dict[str, str] = SETUPTOOLS["package-dir"]
    packages: list[str] = SETUPTOOLS["packages"]
    return {name: ROOT / moved.get(name, name.replace(".", "/")) for name in packages}


def test_every_package_is_shipped() -> None:
    found = {file.parent for top in TOPS for file in (ROOT / top).rglob("__init__.py")}
    assert set(shipped().values()) == found


def test_every_data_file_is_shipped() -> None:
    packages = shipped()
    patterns: dict[str, list[str]] = SETUPTOOLS["package-data"]
    covered = {
        Path(path)
        for name, globs in patterns.items()
        for g in globs
        for path in glob(str(packages[name] / g), recursive=True)
    }
    dull = {".py", ".pyc"}
    found = {p for top in TOPS for p in (ROOT / top).rglob("*") if p.is_file() and p.suffix not in dull}
    assert found
    assert {p.relative_to(ROOT) for p in found} - {p.relative_to(ROOT) for p in covered} == set()


def test_type_checkers_find_what_lies_outside() -> None:
    stubs = ROOT / "typings" / "lorastyle"
    modules = {file.relative_to(ROOT) for top in ("train", "ui") for file in (ROOT / top).glob("*.py")}
    assert {p.relative_to(stubs).with_suffix(".py") for p in stubs.glob("*/*.pyi")} == modules
    for module in modules:
        name = ".".join(module.with_suffix("").parts).removesuffix(".__init__")
        stub = stubs / module.with_suffix(".pyi")
        assert stub.read_text(encoding="utf-8").strip() == f"from {name} import *"


@pytest.mark.parametrize("package", sorted(shipped()))
def test_public_names_exist_and_are_sorted(package: str) -> None:
    module = importlib.import_module(package)
    names = getattr(module, "__all__", None)
    if names is None:
        pytest.fail(f"{package} has no __all__")
    # capitals before small letters, as ruff sorts them
    assert list(names) == sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert [name for name in names if not hasattr(module, name)] == []


def test_constraints_name_every_dependency() -> None:
    wanted = [
        *PROJECT["project"]["dependencies"],
        *(d for extra in PROJECT["project"]["optional-dependencies"].values() for d in extra),
    ]
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    plain = {re.split(r"[<>=;\[ ]", name)[0].lower().replace("_", "-") for name in wanted}
    assert plain - set(pinned) == set()
    assert "torch==2.13.0\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_the_samples_are_what_their_script_makes() -> None:
    made = runpy.run_path(str(ROOT / "samples" / "make.py"))["SAMPLES"]
    assert sorted(made) == list(NAMES)
    for name in NAMES:
        assert sorted(p.stem for p in folder(name).glob("*.png")) == sorted(made[name][1])
    assert {name: len(made[name][1]) for name in NAMES} == {"sticker": 12, "ink": 12, "blob": 5}


def test_the_notice_names_every_picture_source() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for source in (
        "Noto Emoji",
        "Twemoji",
        "Fluent Emoji",
        "Streamline",
        "emojibase-data",
        "CLDR",
        "High Contrast",
    ):
        assert source in notice
    assert {"LICENSE", "NOTICE"} == set(PROJECT["project"]["license-files"])
