"""Every part of a base is hashed once a run, and not again while its files stay as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorastyle.bases import StableDiffusion, WeightFiles, load_base, weight_files
from lorastyle.errors import ConfigError
from lorastyle.train import fit, weights
from lorastyle.train.weights import WeightHashes, weights_hash
from tests.tiny import tiny_pipeline
from tests.train.running import short, stop_at, tiny_base

pytestmark = pytest.mark.usefixtures("quick")
PARTS = 3  # UNet, text encoder, autoencoder


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The class of each module that was hashed."""
    seen: list[str] = []

    def counting(module: torch.nn.Module) -> str:
        seen.append(type(module).__name__)
        return weights_hash(module)

    monkeypatch.setattr(weights, "weights_hash", counting)
    return seen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base on the disk, written a while ago as far as the clock of the file system can tell."""
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_once_a_run_whoever_asks(base: StableDiffusion, images: Path, out: Path, hashed: list[str]) -> None:
    fit(short(images, out, prior=1.0, prior_images=1, class_name="ball", sheet=False), base=base)
    assert sorted(hashed) == ["AutoencoderKL", "CLIPTextModel", "UNet2DConditionModel"]


def test_a_base_at_hand_is_hashed_in_each_run(
    base: StableDiffusion, images: Path, out: Path, hashed: list[str]
) -> None:
    """Its weights may be others by then."""
    for _ in range(2):
        fit(short(images, out, sheet=False), base=base)
    assert len(hashed) == 2 * PARTS


def test_files_are_hashed_once_until_one_of_them_changes(
    images: Path, out: Path, folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_files, "_TICK", 0)
    config = short(images, out, base=str(folder), sheet=False, precision="float32")
    fit(config, on_event=stop_at(1))
    assert len(hashed) == PARTS
    fit(config, on_event=stop_at(2), resume=True)
    assert len(hashed) == PARTS, "known by now"
    (images.parent / "cache" / "hashes").rename(images.parent / "moved")
    fit(config, on_event=stop_at(3), resume=True)
    assert len(hashed) == 2 * PARTS, "the recipe is the same whether it was known or not"

    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    before, tensors = file.stat(), load_file(file)
    tensors["conv_out.bias"] += 1e-3
    save_file(tensors, file, {"format": "pt"})
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(ConfigError, match="the base's unet was"):
        fit(config, resume=True)


def test_what_was_hashed_in_another_type_is_hashed_again(
    images: Path, out: Path, folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_files, "_TICK", 0)
    for memory in ("fast", "int8"):
        fit(short(images, out, base=str(folder), memory=memory, sheet=False, precision="float32"))
    assert len(hashed) == 2 * PARTS


def test_the_hash_is_of_the_bytes(base: StableDiffusion) -> None:
    other = tiny_base()
    unet = other.pipe.unet
    assert weights_hash(unet) == weights_hash(base.pipe.unet)
    with torch.no_grad():
        unet.conv_out.bias[0] += 1e-6
    assert weights_hash(unet) != weights_hash(base.pipe.unet)


def test_a_damaged_record_is_not_believed(
    tmp_path: Path, folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_files, "_TICK", 0)
    base = load_base(str(folder), memory="fast")
    right = WeightHashes(base, base.files)["unet"]
    assert WeightHashes(base, base.files)["unet"] == right and len(hashed) == 1
    (record,) = (tmp_path / "cache" / "hashes").glob("weights-*")
    for text in ("", "[]", '{"unet": 7}', '{"unet": "0123"}', "\xff"):
        record.write_text(text, "latin-1")
        hashed.clear()
        assert WeightHashes(base, base.files)["unet"] == right and len(hashed) == 1


def test_files_that_were_written_just_now_are_not_settled(tmp_path: Path) -> None:
    file = tmp_path / "base.safetensors"
    file.write_bytes(b"1")
    changed = max(file.stat().st_mtime_ns, file.stat().st_ctime_ns)
    files = WeightFiles.of(file)
    assert not WeightFiles(file, files.about, changed + 1_000_000).are_settled
    assert WeightFiles(file, files.about, changed + 100_000_000).are_settled
    name, size, _, _, inode, device = files.about[0]
    coarse = ((name, size, 5 * 10**9, 5 * 10**9, inode, device),)  # as FAT keeps times
    assert not WeightFiles(file, coarse, 6 * 10**9).are_settled
    assert WeightFiles(file, coarse, 8 * 10**9).are_settled
    assert files.are_unchanged
    file.unlink()
    assert not files.are_unchanged
