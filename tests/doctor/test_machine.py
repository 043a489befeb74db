"""Cards of the driver, and folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorastyle.doctor import machine
from lorastyle.doctor.places import look_at

needs_shell = pytest.mark.skipif(os.name == "nt", reason="a shell script and links")


@needs_shell
@pytest.mark.parametrize(("code", "cards"), [(0, ("NVIDIA T4", "NVIDIA L4")), (9, ())])
def test_cards_of_the_driver(
    code: int, cards: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.nvidia_cards() == ()
    program = tmp_path / "nvidia-smi"
    lines = "GPU 0: NVIDIA T4 (UUID: GPU-1b2c)\nGPU 1: NVIDIA L4 (UUID: GPU-3d4e)"
    program.write_text(f"#!/bin/sh\necho '{lines}'\nexit {code}\n")
    program.chmod(0o755)
    assert machine.nvidia_cards() == cards


@needs_shell
def test_a_folder_counts_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "a").write_bytes(b"12345")
    (tmp_path / "deep" / "er" / "b").write_bytes(b"123")
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "a")
    place = look_at("cache", tmp_path)
    assert (place.files, place.size, place.counted_all) == (2, 8, True)
    assert place.exists and place.writable and place.free > 0
    less = look_at("cache", tmp_path, most=1)
    assert (less.files, less.counted_all) == (1, False)


def test_a_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = look_at("cache", tmp_path / "not" / "yet")
    assert not place.exists and place.writable and place.files == 0 and place.free > 0
    monkeypatch.chdir(tmp_path)
    assert look_at("adapters", Path("adapters")).path == "./adapters"


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    place = look_at("cache", tmp_path / "file" / "cache")
    assert not place.exists and not place.writable
