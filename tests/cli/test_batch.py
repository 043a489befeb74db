"""`lorastyle batch` and `lorastyle grid`, as people run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from lorastyle.batch import read_manifest
from lorastyle.generate import read_request
from tests.cli.conftest import Said, write_adapter

Run = Callable[..., Said]
SAMPLE = Path(__file__).parents[2] / "samples" / "batch.yaml"


@pytest.fixture
def styles(tmp_path: Path) -> None:
    """The adapters of the sample manifest, for the tiny base."""
    for seed, name in enumerate(("sticker", "ink")):
        write_adapter(tmp_path / "adapters" / f"{name}.safetensors", seed=seed, trigger=name)


def pictures(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.png")}


def test_the_sample_manifest_is_drawn(lorastyle: Run, tiny_base: str, styles: None) -> None:
    said = lorastyle("batch", SAMPLE, "--dry-run", "--json")
    items = json.loads(said.out)["items"]
    assert said.code == 0 and len(items) == 12 and all(item["draw"] for item in items)
    assert lorastyle("batch", SAMPLE).code == 0
    folder = Path("pictures") / "batch"
    drawn = pictures(folder)
    assert sorted(drawn) == sorted(item["file"] for item in items)
    assert len(set(drawn.values())) == 12
    with Image.open(folder / "contact-sheet.jpg") as sheet:
        assert sheet.width > 4 * 100
    for item in items:
        request = read_request(folder / item["file"])
        asked = item["request"]
        assert (request.prompt, request.seed, request.steps) == (asked["prompt"], asked["seed"], 20)
        scales = [(use["name"], use["scale"]) for use in asked["adapters"]]
        assert [(use.name, use.scale) for use in request.adapters] == scales
    assert not any("house" in item["request"]["prompt"] and item["request"]["seed"] == 2 for item in items)
    assert read_manifest(SAMPLE).folder == SAMPLE.parent


def test_a_second_run_draws_what_is_missing_or_damaged(lorastyle: Run, tiny_base: str) -> None:
    Path("m.jsonl").write_text('{"prompt": "a cat", "steps": 2, "seed": "1:4"}\n')
    assert lorastyle("batch", "m.jsonl", "-o", "out").code == 0
    first = pictures(Path("out"))
    names = sorted(first)
    (Path("out") / names[0]).unlink()
    (Path("out") / names[1]).write_bytes(first[names[1]][:50])
    said = lorastyle("batch", "m.jsonl", "-o", "out")
    assert said.code == 0 and f"drawn again: {names[1]}" in said.err
    again = pictures(Path("out"))
    assert {name: again[name] for name in names} == first
    said = lorastyle("batch", "m.jsonl", "-o", "out", "--dry-run")
    assert "0 of 4 pictures would be drawn" in said.out


def test_what_fails_is_told_and_the_rest_is_drawn(lorastyle: Run, tiny_base: str) -> None:
    lines = [
        '{"prompt": "a cat", "steps": 2}',
        '{"prompt": "a dog", "stpes": 2}',
        '{"prompt": "a cow", "steps": 2, "adapters": {"nobody": 1}}',
        '{"prompt": "a pig", "steps": 2, "size": 99999999}',
        '{"prompt": "a hen", "steps": 2, "name": "../../hen"}',
        '{"prompt": "a bee", "steps": 2}',
    ]
    Path("m.jsonl").write_text("\n".join(lines))
    said = lorastyle("batch", "m.jsonl", "-o", "out")
    assert said.code == 3
    assert len(pictures(Path("out"))) == 2
    for told in ("line 2, column 21: unknown key 'stpes'", "nobody", "99999999", "../../hen"):
        assert said.err.count(told) >= 1, told
    assert list(Path().glob("**/*hen*")) == [] and not Path("../hen.png").exists()


def test_shards_draw_the_whole(lorastyle: Run, tiny_base: str) -> None:
    Path("m.jsonl").write_text('{"prompt": "a cat", "steps": 2, "seed": "1:5"}\n')
    assert lorastyle("batch", "m.jsonl", "-o", "whole").code == 0
    assert lorastyle("batch", "m.jsonl", "-o", "parts", "--shard", "1/2").code == 0
    assert 0 < len(pictures(Path("parts"))) < 5
    assert lorastyle("batch", "m.jsonl", "-o", "parts", "--shard", "2/2").code == 0
    assert pictures(Path("parts")) == pictures(Path("whole"))
    assert lorastyle("batch", "m.jsonl", "--shard", "3/2").code == 1


def test_a_grid_has_a_picture_for_each_pair(lorastyle: Run, tiny_base: str, adapter: Path) -> None:
    axes = ("-a", "dots", "--x", "dots=0:1:0.5", "--y", "seed=1,2")
    assert lorastyle("grid", "a cat", *axes, "--steps", 2, "-o", "out").code == 0
    found = {
        (tuple(use.scale for use in request.adapters), request.seed): file
        for file in Path("out").glob("*.png")
        if file.name != "grid.png"
        for request in [read_request(file)]
    }
    assert len(found) == 6 and {seed for _, seed in found} == {1, 2}
    with Image.open("out/grid.png") as grid:
        assert grid.width > 3 * 64 and grid.height > 2 * 64
    strong = Image.open(found[(1.0,), 1]).convert("RGB")
    half = Image.open(found[(0.5,), 1]).convert("RGB")
    assert ImageChops.difference(strong, half).getbbox() is not None
    assert lorastyle("grid", "a cat", "--x", "sede=1:2").code == 1
