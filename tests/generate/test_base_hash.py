"""Pictures say which checkpoint file drew them, as A1111 does."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import pytest
from PIL import Image

from lorastyle.bases import LoadedFile, StableDiffusion, load_base
from lorastyle.errors import ConfigError
from lorastyle.generate import Engine, GenerateRequest, read_request, read_settings, save_picture
from lorastyle.generate.metadata.a1111 import write_parameters
from tests.original import made, write_original

REQUEST = GenerateRequest("a cat", seed=1, steps=1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORASTYLE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def file(base: StableDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The base as one that was loaded from this file."""
    path = tmp_path / "dream_v8.safetensors"
    path.write_bytes(b"weights")
    monkeypatch.setattr(base, "file", LoadedFile.of(path))
    monkeypatch.setattr(base, "name", str(path))
    return path


def test_a_checkpoint_has_its_hash_and_a_folder_has_none(tmp_path: Path) -> None:
    pipe = made("sd1")
    path = write_original(pipe, tmp_path / "dream.safetensors")
    pipe.save_pretrained(tmp_path / "folder")
    assert load_base(str(tmp_path / "folder"), device="cpu").file is None
    loaded = load_base(str(path), device="cpu").file
    assert loaded is not None and loaded.hash == hashlib.sha256(path.read_bytes()).hexdigest()[:10]


def test_the_picture_says_it_in_both_texts(engine: Engine, file: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()[:10]
    [drawn] = engine.generate(REQUEST)
    path = save_picture(drawn, tmp_path / "a.png")
    with Image.open(path) as picture:
        text = str(picture.info["parameters"])
    assert f", Model hash: {digest}, Model: dream_v8, " in text
    assert read_request(path).base_hash == digest
    found, remarks = read_settings(path, base=engine.base.name)
    assert (found.base, found.base_hash, remarks) == (str(file), digest, [])


def test_a_base_that_is_no_file_says_nothing(engine: Engine) -> None:
    [drawn] = engine.generate(REQUEST)
    assert drawn.request.base_hash is None
    assert "Model hash" not in write_parameters(drawn.request, "1")


def test_another_file_under_the_recorded_name_is_told(engine: Engine, file: Path) -> None:
    drawn = engine.generate(REQUEST)[0].request
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.generate(drawn)
    file.write_bytes(b"others")
    engine.base.file = LoadedFile.of(file)
    with pytest.warns(UserWarning, match=rf"dream_v8.* was made with {drawn.base_hash}: the picture will"):
        again = engine.generate(drawn)[0].request
    assert again.base_hash == hashlib.sha256(b"others").hexdigest()[:10] != drawn.base_hash


@pytest.mark.parametrize("digest", ["0123456789ab", "012345678", "ABCDEF0123", 123, ""])
def test_what_is_no_hash_is_refused(digest: object) -> None:
    with pytest.raises(ConfigError, match=r"base_hash is .*; 10 hex digits"):
        GenerateRequest.from_dict({"prompt": "a", "base_hash": digest})
