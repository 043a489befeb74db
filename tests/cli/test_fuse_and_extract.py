"""`lorastyle fuse` and `lorastyle extract`: there and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Said

Run = Callable[..., Said]


def test_there_and_back(lorastyle: Run, tiny_base: str, adapter: Path) -> None:
    said = lorastyle("fuse", "-a", "dots:0.5", "-o", "with-dots")
    assert (
        said.code == 0 and said.err == "" and re.fullmatch(r"with-dots: .* MB, 2 layers changed\n", said.out)
    )
    told = lorastyle(
        "extract", "--tuned", "with-dots", "--base", tiny_base, "--rank", 2, "-o", "back.safetensors"
    )
    assert told.code == 0 and "unet: 2 modules, rank 2 of 16, left out 0.0% of the norm" in told.out
    half = lorastyle("merge", "dots:0.5", "--base", tiny_base, "-o", "half.safetensors")
    assert half.code == 0, half.err
    assert lorastyle("verify", "half.safetensors", "back.safetensors", "--base", tiny_base).code == 0
    assert lorastyle("verify", adapter, "back.safetensors", "--base", tiny_base).code == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("fuse", "-o", "x"), "Name the adapters"),
        (("fuse", "-a", "dots", "-o", "x.safetensors"), "is a folder, and only what is one file"),
        (
            ("extract", "--tuned", "none", "--base", "embedded", "-o", "x.safetensors"),
            'There is no base "none"',
        ),
        (("extract", "--tuned", "a", "--base", "b", "--rank", "0", "-o", "x.safetensors"), "rank is 0"),
    ],
)
@pytest.mark.usefixtures("tiny_base", "adapter")
def test_what_cannot_be(lorastyle: Run, arguments: tuple[str, ...], told: str) -> None:
    said = lorastyle(*arguments)
    assert said.code == 1 and told in said.err and len(said.err.splitlines()) == 1
