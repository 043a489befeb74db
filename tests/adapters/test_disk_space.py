"""Files that the disk has no room for are refused before they are written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lorastyle.adapters import (
    Adapter,
    LowRank,
    atomic_write,
    check_space,
    convert_adapter,
    free_space,
    lack_of_space,
    save_adapter,
)
from lorastyle.errors import AdapterError, AdapterFileError, PictureError
from lorastyle.generate import GenerateRequest, check_picture_space
from lorastyle.library import add


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def limited(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=1 << 40, free=free))  # pyright: ignore[reportUnknownLambdaType]

    return limited


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """An adapter of some 5 MB."""
    update = LowRank(torch.zeros(256, 1280), torch.zeros(1280, 256), 1.0)
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_"
    adapter = Adapter("large", {"unet": {f"{path}{x}": update for x in "qkv"}}, {"lorastyle.base": "sd1"})
    return Path(save_adapter(adapter, tmp_path / "large.safetensors"))


def test_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free_space(tmp_path / "not" / "yet") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


def test_what_goes_to_one_disk_counts_together(tmp_path: Path, disk: Callable[[int], None]) -> None:
    disk(100)
    assert lack_of_space({tmp_path / "a": 60, tmp_path / "b" / "c": 40}) is None
    lack = lack_of_space({tmp_path / "a": 60, tmp_path / "b" / "c": 41})
    assert lack is not None and (lack.needed, lack.free, lack.folder) == (101, 100, tmp_path / "a")
    with pytest.raises(OSError, match=r"0\.0 MB needed, 0\.0 MB free") as told:
        check_space(tmp_path / "a", 101)
    assert told.value.errno == errno.ENOSPC and told.value.filename == str(tmp_path / "a")


def test_nothing_is_written_of_what_does_not_fit(tmp_path: Path, disk: Callable[[int], None]) -> None:
    atomic_write(tmp_path / "a", bytes(2_000_000))
    disk(1_500_000)
    for data in (bytes(2_000_001), (bytes(2_000_000), b"1")):
        with pytest.raises(OSError, match=r"2\.0 MB needed, 1\.5 MB free"):
            atomic_write(tmp_path / "a", data)
    assert (tmp_path / "a").stat().st_size == 2_000_000 and len(list(tmp_path.iterdir())) == 1
    disk(0)
    atomic_write(tmp_path / "small", b"a few bytes, which root may write even now")


def test_writers_say_how_much_is_needed(
    large: Path, tmp_path: Path, disk: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORASTYLE_HOME", str(tmp_path / "home"))
    disk(1_000_000)
    with pytest.raises(AdapterFileError, match=r"3\.9 MB needed, 1\.0 MB free"):
        convert_adapter(large, tmp_path / "other.safetensors")
    with pytest.raises(AdapterError, match=r"cannot be copied to .*3\.9 MB needed, 1\.0 MB free"):
        add(large)
    assert not (tmp_path / "other.safetensors").exists()
    assert not list((tmp_path / "home").rglob("*.safetensors"))
    disk(1 << 40)
    assert add(large).exists()


def test_images(tmp_path: Path, disk: Callable[[int], None]) -> None:
    disk(10_000_000)
    request = GenerateRequest("a cat", number=8, width=1024, height=1024)
    check_picture_space(tmp_path, [(request, ".png")])
    check_picture_space(tmp_path, [(request, ".jpg")] * 4)
    with pytest.raises(PictureError, match=r"too little disk space at .* for 16 images: 13\.4 MB needed, 10"):
        check_picture_space(tmp_path / "new", [(request, ".png")] * 2)
    with pytest.raises(PictureError, match="for 8 images"):
        check_picture_space(
            tmp_path, [(GenerateRequest("a", number=8, width=1024, height=1024, hires=2), ".png")]
        )
