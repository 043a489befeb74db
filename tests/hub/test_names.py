"""What is a name of the Hub's, and what is a path."""

from __future__ import annotations

import pytest

from lorastyle.hub import HubAdapter


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ada/inks", ("ada/inks", None, None)),
        ("ada/inks@v1.2", ("ada/inks", "v1.2", None)),
        ("ada/inks/ink.safetensors", ("ada/inks", None, "ink.safetensors")),
        ("ada/inks@main/old/ink (2).safetensors", ("ada/inks", "main", "old/ink (2).safetensors")),
        ("ada/inks@refs/pr/7", ("ada/inks", "refs/pr/7", None)),
        ("ada/inks@refs/pr/7/ink.safetensors", ("ada/inks", "refs/pr/7", "ink.safetensors")),
    ],
)
def test_a_name_is_read_and_written(name: str, parts: tuple[str, str | None, str | None]) -> None:
    parsed = HubAdapter.parse(name)
    assert parsed == HubAdapter(*parts)
    assert str(parsed) == name


@pytest.mark.parametrize(
    "name",
    [
        "ink",
        "ink.safetensors",
        "adapters/ink.safetensors",
        "./ink",
        "../inks/ink.safetensors",
        "ada/..",
        "ada/inks/../../ink.safetensors",
        "ada/inks//ink.safetensors",
        "/ada/inks",
        "~/inks",
        "C:\\inks\\ink.safetensors",
        "ada/inks@",
        "ada/inks/ink.ckpt",
        "ada/inks\n",
        "",
    ],
)
def test_anything_else_is_not_the_hubs(name: str) -> None:
    assert HubAdapter.parse(name) is None
