"""Limits of a container, cards of the driver, and folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorastyle.doctor import machine
from lorastyle.doctor.places import look_at

needs_shell = pytest.mark.skipif(os.name == "nt", reason="a shell script and links")


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the system's limits."""
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    return tmp_path


def test_a_quota_of_cores(limits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    assert machine.cores() == 8
    for text, cores in (("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)):
        (limits / "cpu.max").write_text(f"{text}\n")
        assert machine.cores() == cores


def test_a_limit_of_memory(limits: Path) -> None:
    total, free = machine.memory()
    assert total > free > 50_000_000
    (limits / "memory.max").write_text("max\n")
    assert machine.memory()[0] == total
    (limits / "memory.max").write_text("50000000\n")
    (limits / "memory.current").write_text("30000000\n")
    (limits / "memory.stat").write_text("anon 1\ninactive_file 10000000\n")
    assert machine.memory() == (50_000_000, 30_000_000)


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
