"""What runs in the processes that `test_killed` kills."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lorastyle.batch import Results, expand, make_plan, read_manifest, run
from lorastyle.cli import main

from .conftest import paint

KILLED = 9


def batch(manifest: Path, out: Path, base: Path) -> None:
    """`lorastyle batch` without a word."""
    torch.set_num_threads(1)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os._exit(main(["batch", str(manifest), "--out", str(out), "--base", str(base)]))


def paint_and_die(manifest: Path, out: Path, operation: int, *, done: bool) -> None:
    """Draw a batch, and die at the n-th time that something is made to last: before or after it is."""
    count = 0

    def deadly(what: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == operation and not done:
                os._exit(KILLED)
            try:
                return what(*arguments, **options)
            finally:
                if count == operation:
                    os._exit(KILLED)

        return call

    for name in ("fsync", "link", "replace", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))
    with Results.opened(out) as results:
        plan = make_plan(expand(read_manifest(manifest), base="embedded"), results.history, Path())
        for _ in run(plan.todo, paint, results):
            pass
        results.keep_sheet("contact-sheet.png", "this", b"a sheet")
    os._exit(0)
