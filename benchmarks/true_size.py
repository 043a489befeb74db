"""Does a model of true size work here? From a checkpoint file to an adapter and a picture.

    python -m benchmarks.true_size                # Stable Diffusion 1.5 at 512 pixels, minutes on two cores
    python -m benchmarks.true_size --family sdxl  # XL, also at 512 pixels; 23 GB of memory

A base with random weights is written as one checkpoint in float16, as people download them.
Then the command line trains on five pictures for five steps, and draws one in four, each as a process of its
own. Time is wall clock; memory is the most that a process had resident.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.models import make_pipeline
from tests.original import write_original

ROOT = Path(__file__).parents[1]
NAMES = {"sd1": "Stable Diffusion 1.5", "sdxl": "Stable Diffusion XL"}


@dataclass(frozen=True)
class Run:
    """One command: what it did, in how many seconds, with how many bytes resident at most."""

    what: str
    seconds: float
    bytes: int


def write_checkpoint(path: Path, family: str) -> None:
    """A base of `family` with random weights; made in bfloat16, half the memory."""
    torch.manual_seed(0)
    write_original(make_pipeline(family, dtype=torch.bfloat16), path, dtype=torch.float16)


def run(what: str, *arguments: str, folder: Path) -> Run:
    """`lorastyle <arguments>` in a process of its own, in `folder`, shown as it goes."""
    environment = {**os.environ, "LORASTYLE_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "lorastyle", *arguments], cwd=folder, env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"lorastyle {' '.join(arguments)} ended with {code}")
    return Run(what, time.perf_counter() - start, usage.ru_maxrss * 1024)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, help="where the checkpoint is kept; a temporary folder if left out"
    )
    parser.add_argument("--family", choices=tuple(NAMES), default="sd1")
    args = parser.parse_args()
    folder: Path = (args.folder or Path(tempfile.mkdtemp())).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = folder / f"{args.family}-random.safetensors"
        if not file.exists():
            write_checkpoint(file, args.family)
        base = ("--base", file.name)
        images = str(ROOT / "samples" / "blob")
        size = ("--resolution", "512")
        few = ("--steps", "5", "--sample-prompts", "a cat", "--sample-every", "0", "--no-sheet")
        runs = [
            run("train 5 steps", "train", "--images", images, *base, *size, *few, folder=folder),
            run(
                "draw 4 steps",
                *("generate", "a cat", "-a", "blob", "--steps", "4", "--size", "512x512", *base),
                folder=folder,
            ),
        ]
    finally:
        if args.folder is None:
            shutil.rmtree(folder)
    table = Table(
        title=f"{NAMES[args.family]}, random weights, 512 px, {platform.machine()}, {os.cpu_count()} CPUs"
    )
    for heading in ("what", "minutes", "most memory"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for one in runs:
        table.add_row(one.what, f"{one.seconds / 60:.1f}", f"{one.bytes / 1e9:.1f} GB")
    Console().print(table)


if __name__ == "__main__":
    main()
