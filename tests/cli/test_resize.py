"""`lorastyle resize`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lorastyle.adapters import Adapter, read_info, save_adapter
from lorastyle.cli.resize import parse_bytes
from lorastyle.errors import ConfigError
from tests.adapters.examples import low_rank

from .conftest import Said

Run = Callable[..., Said]
BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"


@pytest.fixture
def sdxl(tmp_path: Path) -> Path:
    """A file of rank 16 that is for SDXL by its names."""
    paths = [f"{BLOCK}.attn1.to_{part}" for part in "qkv"]
    updates = {path: low_rank((640, 640), 16, 8.0, seed=i) for i, path in enumerate(paths)}
    adapter = Adapter("ink", {"unet": updates}, {"lorastyle.base": "sdxl"})
    return save_adapter(adapter, tmp_path / "ink.safetensors")


def test_to_a_rank(lorastyle: Run, sdxl: Path, tmp_path: Path) -> None:
    said = lorastyle("resize", sdxl, "small.safetensors", "--rank", 4)
    assert said.code == 0 and said.err == ""
    first, second, *modules = said.out.splitlines()
    assert first.startswith("small.safetensors: ") and first.endswith(", rank 4 of 16")
    assert second.startswith("left out, of the norm of all updates: ") and second.endswith("%")
    assert len(modules) == 3 and all("rank 16 -> 4  unet down_blocks" in line for line in modules)
    info = read_info(tmp_path / "small.safetensors")
    assert dict(info.ranks) == {4: 3} and info.family == "sdxl"


def test_to_a_size(lorastyle: Run, sdxl: Path, tmp_path: Path) -> None:
    said = lorastyle("resize", sdxl, "small.safetensors", "--size", "60kB", "--all")
    assert said.code == 0, said.err
    assert 40_000 < (tmp_path / "small.safetensors").stat().st_size <= 60_000
    lorastyle("resize", sdxl, "large.safetensors", "--size", "1GB")
    assert lorastyle("verify", sdxl, "large.safetensors").code == 0
    assert lorastyle("verify", sdxl, "small.safetensors").code == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), "Say one of rank, energy and size"),
        (("--rank", 4, "--size", "1MB"), "Say one of rank, energy and size"),
        (("--size", "small"), '--size is "small"; write a number and its unit, such as 40MB.'),
        (("--size", "1kB"), "at rank 1 everywhere it needs"),
    ],
)
def test_what_cannot_be_asked_for(lorastyle: Run, sdxl: Path, flags: tuple[object, ...], told: str) -> None:
    said = lorastyle("resize", sdxl, "small.safetensors", *flags)
    assert said.code == 1 and told in said.err


@pytest.mark.parametrize(
    ("text", "size"),
    [("40MB", 40_000_000), ("1.5 gb", 1_500_000_000), ("500k", 500_000), ("2MiB", 2**21), ("1234", 1234)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-4MB", "4XB", "1e9", "4 M B", "9" * 400])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 40MB"):
        parse_bytes(text)
