"""A batch that is killed, whenever, and started again ends as one that was left in peace."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorastyle.batch import History
from tests.tiny import tiny_pipeline

from .killed import KILLED, batch, paint_and_die

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes are forked from one that has loaded torch")


@pytest.fixture(scope="module")
def start() -> Callable[..., Any]:
    """Start a function in a process of its own, within milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            *("lorastyle.generate.engine", "lorastyle.bases.load", "lorastyle.cli.batch"),
            *("transformers.models.clip.modeling_clip", "transformers.models.clip.tokenization_clip"),
            *("diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion", "rich.progress"),
        ]
    )

    def start(what: Callable[..., None], *arguments: object, **options: object) -> Any:
        process = context.Process(target=what, args=arguments, kwargs=options)
        process.start()
        return process

    return start


def pixels(folder: Path) -> dict[str, tuple[tuple[int, int], bytes]]:
    """{name: its pixels} of everything that is to be seen; fails where something is not whole."""
    found: dict[str, tuple[tuple[int, int], bytes]] = {}
    for path in sorted(folder.rglob("*.png")):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            with Image.open(path) as picture:
                found[path.name] = picture.size, picture.convert("RGB").tobytes()
    return found


def lines(folder: Path) -> int:
    record = folder / "results.jsonl"
    return record.read_bytes().count(b"\n") if record.exists() else 0


def test_killed_at_ten_random_moments(start: Callable[..., Any], tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    manifest = tmp_path / "many.yaml"
    manifest.write_text("defaults: {steps: 2}\nmatrix: {prompt: [a cat, a dog, a tree], seed: 1:10}\n")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    undisturbed = start(batch, manifest, whole, tmp_path / "tiny")
    undisturbed.join()
    assert undisturbed.exitcode == 0 and len(pixels(whole)) == 30

    chance, kills = random.Random(), 0
    print("seed of the moments:", seed := chance.randrange(2**32))
    chance.seed(seed)
    while kills < 10:
        process = start(batch, manifest, cut, tmp_path / "tiny")
        enough = lines(cut) + chance.randrange(4)
        while process.is_alive() and lines(cut) < enough:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        kills += 1
        record = History.read(cut)
        known = {kept.file for drawn in record.drawn.values() for kept in drawn}
        assert set(pixels(cut)) <= known and record.failed == {}
    assert kills >= 8 and 0 < len(pixels(cut)), "it was done before it could be killed"
    last = start(batch, manifest, cut, tmp_path / "tiny")
    last.join()
    assert last.exitcode == 0
    assert pixels(cut) == pixels(whole)
    assert sorted(path.name for path in cut.iterdir()) == sorted(path.name for path in whole.iterdir())


@pytest.mark.parametrize("done", [False, True])
def test_killed_at_every_operation(start: Callable[..., Any], tmp_path: Path, done: bool) -> None:
    manifest = tmp_path / "two.yaml"
    manifest.write_text("matrix: {prompt: [a, b], seed: [1]}\n")
    whole = tmp_path / "whole"
    start(paint_and_die, manifest, whole, 0, done=done).join()
    operation = 0
    while True:
        operation += 1
        cut = tmp_path / f"cut-{operation}"
        killed = start(paint_and_die, manifest, cut, operation, done=done)
        killed.join()
        if killed.exitcode == 0:
            break
        assert killed.exitcode == KILLED
        assert pixels_of_pictures(cut).items() <= pixels_of_pictures(whole).items()
        start(paint_and_die, manifest, cut, 0, done=done).join()
        assert pixels_of_pictures(cut) == pixels_of_pictures(whole)
        assert sorted(p.name for p in cut.iterdir()) == sorted(p.name for p in whole.iterdir())
        for line in (cut / "results.jsonl").read_text().splitlines():
            json.loads(line)
        shutil.rmtree(cut)
    assert operation > 10  # two pictures and a sheet: written, put on record, named


def pixels_of_pictures(folder: Path) -> dict[str, tuple[tuple[int, int], bytes]]:
    sheets = {path.name for path in folder.glob("contact-sheet*")}
    assert all((folder / name).read_bytes() == b"a sheet" for name in sheets)
    found: dict[str, tuple[tuple[int, int], bytes]] = {}
    for path in folder.glob("0*"):
        with Image.open(path) as picture:
            found[path.name] = picture.size, picture.convert("RGB").tobytes()
    return found
