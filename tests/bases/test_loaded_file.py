"""The hash by which others know a checkpoint file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lorastyle.bases import LoadedFile, cache_folder


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORASTYLE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights" * 300_000)  # more than one block
    return path


def kept() -> list[Path]:
    return list((cache_folder() / "hashes").iterdir())


def test_it_is_the_whole_files_sha256_cut_to_ten_digits(file: Path) -> None:
    assert LoadedFile.of(file).hash == hashlib.sha256(file.read_bytes()).hexdigest()[:10]


def test_a_file_is_read_once_whatever_asks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = LoadedFile.of(file).hash
    [only] = kept()
    only.write_text("f" * 64)  # so that an answer from the cache can be told from a new one
    assert LoadedFile.of(file).hash == "f" * 10 != first
    monkeypatch.chdir(file.parent)
    assert LoadedFile.of(Path("model.safetensors")).hash == "f" * 10


@pytest.mark.parametrize("content", [b"", b"f" * 63, b"F" * 64, b"\xff" * 64])
def test_a_damaged_cache_is_made_again(file: Path, content: bytes) -> None:
    right = LoadedFile.of(file).hash
    [only] = kept()
    only.write_bytes(content)
    assert LoadedFile.of(file).hash == right
    assert len(only.read_text()) == 64


def test_a_file_written_anew_is_another_one(file: Path) -> None:
    loaded, before = LoadedFile.of(file), LoadedFile.of(file).hash
    assert before is not None
    file.write_bytes(b"others")
    assert loaded.hash is None  # these are not the weights that were loaded
    assert LoadedFile.of(file).hash == hashlib.sha256(b"others").hexdigest()[:10]
    gone = LoadedFile.of(file)
    file.unlink()
    assert gone.hash is None


def test_without_a_cache_it_is_computed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert LoadedFile.of(file).hash == hashlib.sha256(file.read_bytes()).hexdigest()[:10]


def test_the_same_name_and_size_at_another_time_is_another_file(file: Path) -> None:
    first = LoadedFile.of(file)
    assert first.hash is not None
    os.utime(file, ns=(0, 0))
    assert LoadedFile.of(file) != first and first == LoadedFile(first.path, first.size, first.modified)
    assert LoadedFile.of(file).hash == first.hash and len(kept()) == 2


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LORASTYLE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("LORASTYLE_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "lorastyle"
