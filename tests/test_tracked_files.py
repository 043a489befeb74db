"""What no tracked file may hold, whatever its kind."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKER = re.compile(rb"^(?:<{7}|>{7}|\|{7})(?: |$)", re.MULTILINE)
NEVER_TEXT = {".safetensors", ".png", ".jpg", ".webp", ".npz"}


def files() -> Iterator[Path]:
    """The tracked files; in a copy without git, as `.ci/run` tests one, everything outside hidden folders."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode == 0:
        yield from (ROOT / name for name in listed.stdout.decode().split("\0") if name)
        return
    for path in ROOT.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(ROOT).parts[:-1])
        if path.is_file() and not hidden and "egg-info" not in str(path):
            yield path


def test_no_file_holds_the_marks_of_a_merge_conflict() -> None:
    texts = [path for path in files() if path.suffix not in NEVER_TEXT and path.is_file()]
    assert len(texts) > 300
    assert [str(path) for path in texts if MARKER.search(path.read_bytes())] == []


@pytest.mark.parametrize("mark", ["<<<<<<< HEAD", ">>>>>>> 32f37d8 (Extract)", "||||||| base", ">>>>>>>"])
def test_such_marks_are_found(mark: str) -> None:
    assert MARKER.search(f'"""Commands.\n{mark}\n"""'.encode())


@pytest.mark.parametrize("line", ["=======", "    <<<<<<< shown in a docstring", "<<<<<<<<", "x <<<<<<< y"])
def test_what_only_looks_like_one_is_not(line: str) -> None:
    assert not MARKER.search(f"first\n{line}\n".encode())
