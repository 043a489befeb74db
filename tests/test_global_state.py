"""Threads share the process, so nothing changes it while it runs, with few exceptions and their reasons."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("lorastyle", "train", "ui")

CALLS = {
    *("os.chdir", "os.fchdir", "os.umask", "os.putenv", "os.unsetenv"),
    *("os.environ.update", "os.environ.setdefault", "os.environ.pop", "os.environ.clear"),
    *(
        "warnings.catch_warnings",
        "warnings.simplefilter",
        "warnings.filterwarnings",
        "warnings.resetwarnings",
    ),
    *("logging.basicConfig", "logging.disable", "logging.captureWarnings"),
    *("torch.manual_seed", "torch.set_num_threads", "torch.set_default_dtype", "torch.set_default_device"),
    *("torch.use_deterministic_algorithms", "torch.set_grad_enabled", "torch.set_float32_matmul_precision"),
    *("random.seed", "numpy.random.seed", "np.random.seed", "locale.setlocale", "sys.setrecursionlimit"),
    *("signal.signal", "socket.setdefaulttimeout", "gc.disable", "faulthandler.enable"),
}
ENDINGS = ("setLevel", "set_verbosity", "set_verbosity_error", "set_verbosity_info", "disable_progress_bar")
ASSIGNED = (
    *("os.environ", "tempfile.tempdir", "warnings.showwarning", "warnings.filters"),
    *("sys.stdout", "sys.stderr", "sys.path", "sys.excepthook", "Image.MAX_IMAGE_PIXELS"),
    *("ImageFile.LOAD_TRUNCATED_IMAGES", "torch.backends"),
)
ALLOWED = {
    ("lorastyle/cli/console.py", "warnings.showwarning"): "`main` calls it once, as the process starts",
    ("lorastyle/cli/console.py", "warnings.filterwarnings"): "`main` calls it once, as the process starts",
    ("lorastyle/cli/interrupt.py", "signal.signal"): "signals belong to the main thread, which alone does it",
    ("train/stop.py", "signal.signal"): "signals belong to the main thread, which alone does it",
    ("train/loop.py", "torch.manual_seed"): "dropout has no generator of its own; inside of fork_rng",
    ("ui/serve.py", "os.environ"): "gradio reads it; once, before gradio is imported and threads start",
    ("ui/serve.py", "os.environ.setdefault"): "gradio reads it; once, before threads start",
}


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def changes(source: str) -> set[str]:
    """What of the process this code changes: dotted names of calls, and of what is assigned to."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS or name.rpartition(".")[2] in ENDINGS:
                found.add(name)
        targets = (
            node.targets
            if isinstance(node, (ast.Assign, ast.Delete))
            else [node.target]
            if isinstance(node, (ast.AugAssign, ast.AnnAssign))
            else []
        )
        for target in targets:
            name = dotted(target.value if isinstance(target, ast.Subscript) else target)
            found |= {known for known in ASSIGNED if name == known or name.startswith(f"{known}.")}
    return found


def dotted(node: ast.AST) -> str:
    """`os.environ.pop` of such an expression; a call in it counts as its function."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return dotted(node.func) if isinstance(node, ast.Call) else ""


def test_nothing_but_what_has_a_reason() -> None:
    found = {
        (file.relative_to(ROOT).as_posix(), name)
        for file in sources()
        for name in changes(file.read_text(encoding="utf-8"))
    }
    assert found - ALLOWED.keys() == set()
    assert ALLOWED.keys() - found == set(), "no longer needed"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("os.chdir(folder)", "os.chdir"),
        ("os.environ['A'] = 'b'", "os.environ"),
        ("del os.environ['A']", "os.environ"),
        ("os.environ.setdefault('A', 'b')", "os.environ.setdefault"),
        ("tempfile.tempdir = x", "tempfile.tempdir"),
        ("with warnings.catch_warnings(): pass", "warnings.catch_warnings"),
        ("warnings.showwarning = show", "warnings.showwarning"),
        ("logging.getLogger('x').setLevel(10)", "logging.getLogger.setLevel"),
        ("diffusers_logging.set_verbosity_error()", "diffusers_logging.set_verbosity_error"),
        ("torch.backends.cudnn.benchmark = True", "torch.backends"),
        ("Image.MAX_IMAGE_PIXELS = None", "Image.MAX_IMAGE_PIXELS"),
    ],
)
def test_changes_are_found(source: str, name: str) -> None:
    assert changes(source) == {name}


@pytest.mark.parametrize(
    "source",
    ["os.environ['A']", "os.environ.get('A')", "torch.Generator().manual_seed(0)", "self.environ['A'] = 1"],
)
def test_what_only_reads_is_not(source: str) -> None:
    assert changes(source) == set()
