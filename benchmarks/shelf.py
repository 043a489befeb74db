"""How long `lorastyle library ls` takes with thousands of files: `python -m benchmarks.speed library`."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lorastyle.adapters import read_header

from .shapes import FAMILIES, write_random


def library(args: argparse.Namespace) -> None:
    """A whole process each time: headers unknown and not in the page cache, then known."""
    with tempfile.TemporaryDirectory(prefix="lorastyle-speed-") as name:
        home = Path(name)
        _fill(home / "adapters", args.files)
        cold: list[float] = []
        for _ in range(args.rounds):
            (home / "headers.json").unlink(missing_ok=True)
            for file in (home / "adapters").iterdir():
                _forget(file)
            cold.append(_listed(home, args.files))
        warm = [_listed(home, args.files) for _ in range(args.rounds)]
        kept = (home / "headers.json").stat().st_size
    table = Table(
        title=f"lorastyle library ls, {args.files:,} files, half SD 1.5 and half SDXL; whole processes"
    )
    for heading in ("", "best", "median", "bar"):
        table.add_column(heading, justify="right")
    for what, times, bar in (("cold", cold, "10 s"), ("warm", warm, "1 s")):
        table.add_row(what, f"{min(times):.2f} s", f"{statistics.median(times):.2f} s", bar)
    console = Console()
    console.print(table)
    console.print(f"The store of headers takes {kept / 1e6:.1f} MB.")
    console.print(f"Load average of the machine at the end: {os.getloadavg()[0]:.1f}.")


def _fill(folder: Path, number: int) -> None:
    """Real headers, and data that takes no room on the disk."""
    folder.mkdir()
    heads: list[tuple[bytes, int]] = []
    for family in FAMILIES:
        path = write_random(family, folder / f"{family}.safetensors", rank=1)
        header = read_header(path)
        heads.append((path.read_bytes()[: header.data_start], header.file_bytes))
        path.unlink()
    for i in range(number):
        head, size = heads[i % len(heads)]
        with (folder / f"adapter-{i:05}.safetensors").open("wb") as file:
            file.write(head)
            file.truncate(size)


def _forget(file: Path) -> None:
    """Out of the page cache, where the system lets us."""
    if sys.platform == "linux":
        with file.open("rb") as opened:
            os.fdatasync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _listed(home: Path, number: int) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "lorastyle", "library", "ls"]
    environment = {**os.environ, "LORASTYLE_HOME": str(home)}
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=True)
    taken = time.perf_counter() - start
    if len(done.stdout.splitlines()) != number + 1:
        raise SystemExit(f"{len(done.stdout.splitlines()) - 1} of {number} files are listed")
    return taken
