"""How long does it take to find out what is left of a large batch?

    python -m benchmarks.batch                    # 10,000 pictures, all drawn before; half a minute
    python -m benchmarks.batch --pictures 1000

A manifest of that many pictures is read, multiplied and ordered, and each picture is compared with the record
of the run that drew it. `unchanged` is a second run; `touched` is one after the files were copied, so that
times say nothing and all bytes are read.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lorastyle.batch import (
    Expansion,
    History,
    Kept,
    Plan,
    expand,
    make_plan,
    order,
    read_manifest,
    resolve,
)

BYTES = 60_000  # of a picture: between an icon and a photograph


def write_manifest(folder: Path, kind: str, count: int) -> Path:
    """A manifest of `count` pictures."""
    path = folder / f"many.{kind}"
    if kind == "yaml":
        path.write_text(
            "defaults: {steps: 20, guidance: 5}\n"
            f"matrix:\n  prompt: [{', '.join(f'thing {i}' for i in range(count // 10))}]\n  seed: 1:10\n"
        )
    elif kind == "csv":
        path.write_text("prompt,seed,steps\n" + "".join(f"thing {i},{i},20\n" for i in range(count)))
    else:
        items = ({"prompt": f"thing {i}", "seed": i, "steps": 20, "size": "128x96"} for i in range(count))
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def pretend_drawn(expansion: Expansion, folder: Path) -> None:
    """Files, and the record of them, as a finished run leaves them."""
    jobs, _ = resolve(order(expansion.items), folder)
    with (folder / "results.jsonl").open("w") as record:
        for job in jobs:
            path = folder / job.item.name
            path.write_bytes(os.urandom(BYTES))
            kept = asdict(Kept.of(path, job.item.name))
            record.write(json.dumps({"id": job.id, "index": job.item.index, **kept}) + "\n")


def timed(what: Callable[[], Plan | Expansion]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000)
    count = parser.parse_args().pictures
    table = Table(
        "manifest", "read and expand", "resume, unchanged", "resume, touched", title=f"{count:,} pictures"
    )
    for kind in ("jsonl", "csv", "yaml"):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            path = write_manifest(folder, kind, count)
            expansion = expand(read_manifest(path), base="embedded")
            assert len(expansion.items) == count, expansion.problems[:3]
            pretend_drawn(expansion, folder)

            def again(expansion: Expansion = expansion, folder: Path = folder) -> Plan:
                plan = make_plan(expansion, History.read(folder), folder)
                assert not plan.todo
                return plan

            def whole(path: Path = path) -> Expansion:
                return expand(read_manifest(path), base="embedded")

            expanding, unchanged = timed(whole), timed(again)
            for item in expansion.items:
                os.utime(folder / item.name)
            seconds = (expanding, unchanged, timed(again))
        table.add_row(kind, *(f"{one:.2f} s" for one in seconds))
    Console().print(table)


if __name__ == "__main__":
    main()
