"""`lorastyle interference`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lorastyle.adapters import Adapter, save_adapter
from tests.adapters.examples import low_rank

from .conftest import Said

Run = Callable[..., Said]
BLOCK = "transformer_blocks.0.attn1.to_q"
PATHS = (f"down_blocks.1.attentions.0.{BLOCK}", f"mid_block.attentions.0.{BLOCK}")


@pytest.fixture(autouse=True)
def four(tmp_path: Path) -> None:
    """Adapters for SDXL: a cat and ink of their own, a copy of the cat with noise, and a pale one."""
    for name, seed, alpha in (("cat", 0, 8.0), ("ink", 40, 8.0), ("tom", 0, 7.0), ("a pale one", 80, 0.8)):
        updates = {
            path: low_rank((width, width), 8, alpha, seed + i)
            for i, (path, width) in enumerate(zip(PATHS, (640, 1280), strict=True))
        }
        adapter = Adapter(name, {"unet": updates}, {"lorastyle.base": "sdxl"})
        save_adapter(adapter, tmp_path / "adapters" / f"{name}.safetensors")


def test_a_table(lorastyle: Run) -> None:
    said = lorastyle("interference", "cat", "ink", "tom:0.5")
    assert said.code == 0 and said.err == ""
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[1:5] == [
        ["cat", "ink", "tom"],
        ["cat", "1.00", "0.00", "1.00"],
        ["ink", "0.00", "1.00", "0.00"],
        ["tom", "1.00", "0.00", "1.00"],
    ]
    assert [line[0] for line in lines[7:10]] == ["IN04", "MID", "all"]
    over = (1.4375**2 + 1) ** 0.5
    assert f"together: {over:.2f} times the strongest" in said.out
    assert f"balanced to 1: cat:{1 / over:.2g}" in said.out and "tom:0.28" in said.out


def test_flags_that_can_be_pasted(lorastyle: Run) -> None:
    said = lorastyle("interference", "cat", "a pale one:2", "--balance")
    flags = shlex.split(said.out)
    assert flags[::2] == ["-a", "-a"] and flags[3].startswith("a pale one:1.9")
    again = lorastyle("interference", *flags[1::2], "--json")
    assert json.loads(again.out)["overcooking"] == pytest.approx(1, abs=0.01)
    before = json.loads(lorastyle("interference", "cat", "a pale one:2", "--json").out)
    assert before["overcooking"] == pytest.approx((1 + 0.2**2) ** 0.5, abs=0.01)


def test_text_encoders_apart(lorastyle: Run) -> None:
    flags = shlex.split(lorastyle("interference", "cat:1:te=0.5", "ink", "--balance").out)
    assert flags[1] == "cat:0.71:te=0.355" and flags[3] == "ink:0.71"
    said = lorastyle("interference", "cat:1:te=0.5:unet=2", "ink:1:unet=1e-9")
    assert "together: 2.00 times" in said.out
    assert said.out.splitlines()[-1] == "balanced to 1: cat:1:te=0.25, ink:5e-10:te=0.5"


def test_many_adapters_and_a_picture(lorastyle: Run, tmp_path: Path) -> None:
    said = lorastyle("interference", "cat", "ink", "tom", "a pale one", "--heat-map", "together.png")
    assert said.code == 0 and said.out.splitlines()[-1] == "together.png"
    with Image.open(tmp_path / "together.png") as picture:
        reds = [n for n, (r, g, _) in picture.getcolors(1 << 20) or [] if r - g > 100]  # type: ignore[misc]
    assert sum(reds) > 3 * 800  # cat and tom, in each column of one row


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("cat",), "Name at least two adapters"),
        (("cat", "cat"), "are the same adapter"),
        (("cat", "ink", "--heat-map", "x.gif"), "--heat-map x.gif: name a .png file"),
        (("cat:0", "ink:0"), "Every scale is 0"),
    ],
)
def test_what_cannot_be_compared(lorastyle: Run, arguments: tuple[str, ...], told: str) -> None:
    said = lorastyle("interference", *arguments)
    assert said.code == 1 and told in said.err
