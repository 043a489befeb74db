"""Numbers as colours."""

from __future__ import annotations

from lorastyle.pictures import heat_map
from lorastyle.pictures.heat_map import colour

COLUMNS = ["all", "MID"]


def test_red_blue_and_white() -> None:
    assert (colour(0.0), colour(1.0), colour(-1.0), colour(7.0)) == (
        "#ffffff",
        "#c8302c",
        "#2c5cc8",
        "#c8302c",
    )
    red = heat_map("t", ["a", "b"], COLUMNS, [[1.0, None], [0.0, -1.0]])
    found = {pixel for _, pixel in red.getcolors(1 << 20) or []}
    assert {(0xC8, 0x30, 0x2C), (0x2C, 0x5C, 0xC8), (255, 255, 255)} <= found
    plain = heat_map("t", ["a", "b"], COLUMNS, [[0.0, None], [0.0, 0.0]])
    assert (0xC8, 0x30, 0x2C) not in {pixel for _, pixel in plain.getcolors(1 << 20) or []}


def test_it_grows_with_its_rows_and_columns() -> None:
    small = heat_map("t", ["a"], COLUMNS, [[0.1, 0.2]])
    large = heat_map("t", ["a"] * 9, COLUMNS * 9, [[0.1, 0.2] * 9] * 9, note="what it is")
    assert large.height > small.height and large.width > small.width
