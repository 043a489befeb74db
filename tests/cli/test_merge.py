"""`lorastyle merge`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lorastyle.adapters import Adapter, read_info, save_adapter
from tests.adapters.examples import low_rank

from .conftest import Said, write_adapter

Run = Callable[..., Said]
BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"


@pytest.fixture
def two(tmp_path: Path) -> None:
    """Adapters for SDXL in the library: cat of rank 8 and ink of rank 4."""
    for seed, (name, rank) in enumerate({"cat": 8, "ink": 4}.items()):
        updates = {
            f"{BLOCK}.attn1.to_{x}": low_rank((640, 640), rank, 4.0, seed * 9 + i) for i, x in enumerate("qk")
        }
        adapter = Adapter(name, {"unet": updates}, {"lorastyle.base": "sdxl", "lorastyle.trigger": name})
        save_adapter(adapter, tmp_path / "adapters" / f"{name}.safetensors")


@pytest.mark.usefixtures("two")
def test_by_names_from_the_library(lorastyle: Run, tmp_path: Path) -> None:
    said = lorastyle("merge", "cat:0.8", "ink:-0.5", "-o", "both.safetensors")
    assert said.code == 0 and said.err == ""
    size = (tmp_path / "both.safetensors").stat().st_size
    assert said.out.splitlines() == [
        f"both.safetensors: {size / 1e3:.1f} KB, float16, by concat",
        "unet: 2 modules, rank 12 of 12, left out 0.0% of the norm",
    ]
    info = read_info(tmp_path / "both.safetensors")
    assert dict(info.ranks) == {12: 2} and info.trigger == "cat, ink"
    assert lorastyle("merge", "cat:0.8", "ink:-0.5", "-o", "fewer.safetensors", "--rank", 6).code == 0
    assert lorastyle("verify", "both.safetensors", "fewer.safetensors").code == 1
    assert lorastyle("merge", "cat:0.8", "ink:-0.5", "-o", "same.safetensors", "--energy", 1).code == 0
    assert lorastyle("verify", "both.safetensors", "same.safetensors").code == 0


@pytest.mark.usefixtures("two")
def test_size_blocks_and_methods(lorastyle: Run, tmp_path: Path) -> None:
    said = lorastyle("merge", "cat", "ink", "-o", "small.safetensors", "--max-size", "40kB", "--all")
    assert said.code == 0 and said.out.count("rank 12 -> ") == 2
    assert 25_000 < (tmp_path / "small.safetensors").stat().st_size <= 40_000
    said = lorastyle("merge", "cat", "ink", "-o", "x.safetensors", "--block-weights", "ink=IN:0")
    assert said.code == 0 and dict(read_info(tmp_path / "x.safetensors").ranks) == {8: 2}
    said = lorastyle("merge", "cat", "ink:1:blocks=IN:0", "-o", "y.safetensors")
    assert said.code == 0 and dict(read_info(tmp_path / "y.safetensors").ranks) == {8: 2}
    said = lorastyle("merge", "cat:1:unet=0.5", "ink:1:unet=0", "-o", "z.safetensors")
    assert said.code == 0 and dict(read_info(tmp_path / "z.safetensors").ranks) == {8: 2}
    assert lorastyle("merge", "cat:0.5", "-o", "half.safetensors").code == 0
    assert lorastyle("verify", "z.safetensors", "half.safetensors").code == 0
    assert lorastyle("verify", "z.safetensors", "y.safetensors").code == 1
    ties = ("--method", "ties", "--density", 0.3)
    said = lorastyle("merge", "cat", "ink", "-o", "ties.safetensors", *ties)
    assert said.code == 0 and "by ties" in said.out and "rank 8 of 640" in said.out


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Name the adapters, such as cat:0.8 ink:0.5"),
        (("cat", "cta"), 'Did you mean "cat"?'),
        (("cat:nan", "ink"), "the scale of .cat. is .nan."),
        (("cat", "cat:0.5"), "are the same adapter"),
        (("cat:0", "ink:0"), "Every scale is 0"),
        (("cat", "ink", "--rank", 0), "rank is 0; it must be at least 1"),
        (("cat", "ink", "--method", "concatenate"), 'Did you mean "concat"?'),
        (("cat", "ink", "--max-size", "4"), "at rank 1 everywhere it needs 0.02 MB"),
        (("cat", "ink", "--max-size", "small"), '--max-size is "small"; write a number and its unit'),
        (
            ("cat", "ink", "--block-weights", "inc=MID:0"),
            '--block-weights are for "inc", .* Did you mean "ink"',
        ),
        (("cat", "ink", "--block-weights", "1,1"), "2 numbers, where 12 or 20 are needed"),
        (("cat", "dots"), "made for different bases"),
        (
            ("cat:1:te=0.5:start=0.2:mask=left", "ink"),
            '"cat" has start=, mask=, which is for drawing: .* te=',
        ),
    ],
)
def test_what_cannot_be_merged(
    lorastyle: Run, tmp_path: Path, arguments: tuple[object, ...], told: str
) -> None:
    write_adapter(tmp_path / "adapters" / "dots.safetensors")
    said = lorastyle("merge", *arguments, "-o", "out.safetensors")
    assert said.code == 1 and not (tmp_path / "out.safetensors").exists()
    assert len(said.err.splitlines()) == 1
    assert re.search(told.replace("?", r"\?"), said.err), said.err


@pytest.mark.usefixtures("two")
@pytest.mark.filterwarnings("default")
def test_an_unusual_scale_is_a_note(lorastyle: Run) -> None:
    said = lorastyle("merge", "cat:12", "ink", "-o", "loud.safetensors")
    assert said.code == 0 and said.err.startswith("note: The scale of 'cat' is 12; beyond 10")
