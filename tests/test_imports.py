"""The layers of the project: a package imports from those to its left, never from their modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# left to right; `lorastyle` itself is what `import lorastyle` offers, up to drawing
ORDER = (
    "errors",
    "notes",
    "text_files",
    "samples",
    "pictures",
    "adapters",
    "hub",
    "library",
    "bank",
    "bases",
    "generate",
    "batch",
    "",
    "train",
    "doctor",
    "ui",
    "cli",
)
OUTSIDE = {"train": ROOT / "train", "ui": ROOT / "ui", "samples": ROOT / "samples"}
FORBIDDEN = {"peft": (), "lycoris": (), "gradio": ("ui",)}  # third party -> who may import it
OWN = ("lorastyle", *OUTSIDE)


def sources() -> Iterator[tuple[str, Path]]:
    """(package, file): `lorastyle/bank/layers.py` belongs to "bank", `train/loop.py` to "train"."""
    for file in (ROOT / "lorastyle").rglob("*.py"):
        first = file.relative_to(ROOT / "lorastyle").parts[0].removesuffix(".py")
        if first != "__main__":  # it starts the command line, and nothing else
            yield ("" if first == "__init__" else first), file
    for package, folder in OUTSIDE.items():
        yield from ((package, file) for file in folder.rglob("*.py"))


def imported(node: ast.AST) -> list[str]:
    """Dotted names of an import: `from lorastyle import train` is `lorastyle.train`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        if node.module == "lorastyle":
            return [f"lorastyle.{alias.name}" for alias in node.names]
        return [node.module or ""]
    return []


def complaint(package: str, name: str) -> str | None:
    """Why `package` may not import `name`, or None."""
    first, *rest = name.split(".")
    if package not in FORBIDDEN.get(first, (package,)):
        return f"{first} is not for {package or 'lorastyle'}"
    if first in OUTSIDE:
        return f"this loads a second copy; write lorastyle.{name}"
    if first != "lorastyle" or not rest:
        return None
    if rest[0] not in ORDER:
        return None  # a name that `lorastyle` itself offers
    if rest[0] == package and package not in ("errors", "notes", "text_files"):
        return "siblings are imported relatively"
    if ORDER.index(rest[0]) > ORDER.index(package):
        return f"{rest[0]} is to the right of {package or 'lorastyle'}"
    return "import from the package, never from its modules" if len(rest) > 1 else None


def complaints(package: str, source: str) -> list[str]:
    return [
        f"line {node.lineno}: {name}: {why}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imported(node)
        if (why := complaint(package, name))
    ]


@pytest.mark.parametrize(("package", "file"), list(sources()), ids=lambda v: str(v).removeprefix(f"{ROOT}/"))
def test_import_direction(package: str, file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert complaints(package, source) == []
    if package not in ("", "errors", "notes", "text_files"):
        depth = len(file.relative_to(OUTSIDE.get(package, ROOT / "lorastyle" / package)).parts)
        levels = [node.level for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
        assert max(levels, default=0) <= depth, "a relative import leaves its package"


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("train", "import gradio"),
        ("bank", "from peft import LoraConfig"),
        ("bank", "from lorastyle import train"),
        ("bank", "from lorastyle.bases import load_base"),
        ("generate", "from lorastyle.bank.layers import GatedLinear"),
        ("", "from lorastyle.ui import main"),
        ("cli", "import train"),
        ("cli", "from train.loop import fit"),
        ("train", "from lorastyle.train.plan import Plan"),
    ],
)
def test_wrong_imports_are_caught(package: str, source: str) -> None:
    assert len(complaints(package, source)) == 1


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("train", "from lorastyle.bank import AdapterBank"),
        ("cli", "from lorastyle.train import fit\nfrom .console import say\nimport json"),
        ("ui", "import gradio"),
        ("train", "from lorastyle import attach"),
    ],
)
def test_right_imports_pass(package: str, source: str) -> None:
    assert complaints(package, source) == []


INSTANT = (
    *("lorastyle", "lorastyle.adapters", "lorastyle.hub", "lorastyle.library", "lorastyle.bases"),
    "lorastyle.generate",
    *("lorastyle.batch", "lorastyle.doctor"),
    *("lorastyle.cli.info", "lorastyle.cli.library", "lorastyle.cli.version"),
)


@pytest.mark.parametrize("module", INSTANT)
def test_what_must_be_instant_does_not_import_torch(module: str) -> None:
    heavy = "('torch', 'diffusers', 'transformers')"
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
