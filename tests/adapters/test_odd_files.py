"""Files from strangers: mixed, hostile or odd. Never a bare traceback, never half an adapter in silence."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lorastyle.adapters import (
    Adapter,
    AdapterWarning,
    LowRank,
    atomic_write,
    load_adapter,
    load_adapter_report,
    read_header,
    read_info,
    save_adapter,
)
from lorastyle.adapters import atomic as atomic_module
from lorastyle.errors import AdapterError, AdapterFileError
from tests.adapters.examples import SHAPES, UNET, low_rank, mixed_adapter, relative_error

TO_Q = f"{UNET}.attn1.to_q"


def write(path: Path, tensors: dict[str, Tensor], **metadata: str) -> Path:
    safetensors.torch.save_file(tensors, path, metadata or None)
    return path


def raw(path: Path, header: dict[str, object], data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def dotted(path: str = f"unet.{TO_Q}") -> dict[str, Tensor]:
    update = low_rank((24, 20), 2, 2.0)
    return {f"{path}.lora_A.weight": update.down, f"{path}.lora_B.weight": update.up}


def test_tensors_in_unknown_names_are_told(tmp_path: Path) -> None:
    """Half of an adapter in names of times to come must not be lost in silence."""
    strange = f"unet.{TO_Q}.lora_of_tomorrow"
    tensors = dotted("text_encoder.text_model.encoder.layers.0.self_attn.q_proj")
    tensors = {
        name: tensor[:, :16].contiguous() if "A" in name else tensor[:16] for name, tensor in tensors.items()
    }
    path = write(tmp_path / "a.safetensors", {**tensors, f"{strange}.weight": torch.ones(2, 20)})
    _, report = load_adapter_report(path, SHAPES)
    assert report.matched and not report.complete and report.unknown == (f"{strange}.weight",)
    assert "no known format" in report.summary()
    with pytest.warns(AdapterWarning, match="no known format"):
        load_adapter(path, SHAPES)


def test_a_size_beyond_all_bounds(tmp_path: Path) -> None:
    name = "lora_unet_a.lora_down.weight"
    entry = {"dtype": "F32", "shape": [0, 2**70], "data_offsets": [0, 0]}
    with pytest.raises(AdapterFileError, match="which cannot be"):
        read_header(raw(tmp_path / "a.safetensors", {name: entry}))


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [-1] * 100_000, "data_offsets": [0, 0]}},
        {"a": {"dtype": "x" * 100_000, "shape": [1], "data_offsets": [0, 4]}},
        {"__metadata__": {"k" * 100_000: 5}},
        {"n\n" * 50_000: {}},
    ],
)
def test_messages_stay_short(tmp_path: Path, header: dict[str, object]) -> None:
    with pytest.raises(AdapterFileError) as caught:
        read_header(raw(tmp_path / "a.safetensors", header))
    assert len(str(caught.value)) < 1000


def test_metadata_that_is_half_a_character(tmp_path: Path) -> None:
    with pytest.raises(AdapterFileError, match="not text in UTF-8"):
        read_header(raw(tmp_path / "a.safetensors", {"__metadata__": {"note": "\ud800"}}))


def test_a_path_with_a_nul() -> None:
    with pytest.raises(AdapterFileError, match="no such file"):
        read_header("a\0b.safetensors")


def test_an_alpha_beyond_all_bounds(tmp_path: Path) -> None:
    text = json.dumps({"unet.lora_alpha": 10**400})
    path = write(tmp_path / "a.safetensors", dotted(), lora_adapter_metadata=text)
    with pytest.raises(AdapterFileError):
        load_adapter(path, SHAPES)
    with pytest.raises(AdapterFileError):
        read_info(path)


def test_info_tells_the_alpha_that_loading_uses(tmp_path: Path) -> None:
    text = json.dumps({"unet.lora_alpha": 16})
    told = write(tmp_path / "a.safetensors", dotted(), lora_adapter_metadata=text)
    silent = write(tmp_path / "b.safetensors", dotted())
    assert load_adapter(told, SHAPES).components["unet"][TO_Q].alpha == 16
    assert dict(read_info(told).alphas) == {16.0: 1} and "16 (1 module)" in read_info(told).describe()
    assert load_adapter(silent, SHAPES).components["unet"][TO_Q].alpha == 2
    assert not read_info(silent).alphas and "none recorded" in read_info(silent).describe()


def test_cross_attention_of_several_widths_is_saved(tmp_path: Path) -> None:
    shapes = {"up.0.attn2.to_k": (8, 32), "down.0.attn2.to_k": (8, 16)}
    adapter = Adapter("a", {"unet": {path: low_rank(shape, 2, 2.0) for path, shape in shapes.items()}})
    again = load_adapter(save_adapter(adapter, tmp_path / "a.safetensors"), {"unet": shapes})
    assert set(again.components["unet"]) == set(shapes)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_factors_that_nearly_cancel_are_saved(tmp_path: Path, dtype: str) -> None:
    one = low_rank((24, 20), 2, 1.0)
    cancelling = LowRank(torch.cat([one.down, one.down]), torch.cat([one.up, one.up * -1.001], 1), 3.0)
    adapter = Adapter("a", {"unet": {TO_Q: cancelling, f"{UNET}.attn1.to_out.0": low_rank((24, 20), 4, 7.0)}})
    again = load_adapter(save_adapter(adapter, tmp_path / "a.safetensors", dtype=dtype), SHAPES)
    assert relative_error(again.components["unet"][TO_Q].delta(), cancelling.delta()) < 0.01


@pytest.mark.parametrize("alpha", [1e-50, 1e39])
def test_an_alpha_that_float32_does_not_hold_is_folded(tmp_path: Path, alpha: float) -> None:
    plain = low_rank((24, 20), 2, 2.0)
    odd = LowRank(plain.down, plain.up.double() * (2 / alpha), alpha)
    path = save_adapter(Adapter("a", {"unet": {TO_Q: odd}}), tmp_path / "a.safetensors", dtype="float32")
    assert relative_error(load_adapter(path, SHAPES).components["unet"][TO_Q].delta(), plain.delta()) < 1e-5


def test_a_factor_too_large_for_float32_is_refused(tmp_path: Path) -> None:
    huge = LowRank(torch.ones(2, 20).double(), torch.full((24, 2), 1e300, dtype=torch.float64), 2.0)
    with pytest.raises(AdapterError, match="NaN or infinity"):
        save_adapter(Adapter("a", {"unet": {TO_Q: huge}}), tmp_path / "a.safetensors")


def test_the_title_is_the_name_it_is_saved_under(tmp_path: Path) -> None:
    first = load_adapter(save_adapter(mixed_adapter("old"), tmp_path / "old.safetensors"), SHAPES)
    renamed = Adapter("new", first.components, first.metadata)
    metadata = read_header(save_adapter(renamed, tmp_path / "new.safetensors")).metadata
    assert metadata["modelspec.title"] == metadata["ss_output_name"] == "new"


def test_updates_of_other_kernels_have_no_inner_product() -> None:
    tall, wide = low_rank((5, 4, 3, 1), 2, 2.0), low_rank((5, 4, 1, 3), 2, 2.0)
    with pytest.raises(AdapterError, match="no inner product"):
        tall.inner(wide)
    linear, point = low_rank((5, 4), 2, 2.0), low_rank((5, 4, 1, 1), 2, 2.0)
    assert linear.inner(point) == pytest.approx(linear.norm() ** 2)


# ---- the disk -------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_flushed_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "a"
    path.write_bytes(b"old")
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_folder_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[bool] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_write(tmp_path / "a", b"data")
    assert flushed == [False, True]


def test_what_a_killed_process_left_is_removed_in_time(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in (".lorastyle-1.tmp", ".lorastyle-2.tmp", ".other.tmp"))
    for path in (old, young, other):
        path.write_bytes(b"half")
    long_ago = time.time() - atomic_module._STALE_SECONDS - 60  # pyright: ignore[reportPrivateUsage]
    for path in (old, other):
        os.utime(path, (long_ago, long_ago))
    atomic_write(tmp_path / "a", b"data")
    assert not old.exists() and young.exists() and other.exists()


def test_a_long_name_in_a_wide_script(tmp_path: Path) -> None:
    path = tmp_path / ("猫" * 80 + ".safetensors")
    atomic_write(path, b"data")
    assert path.read_bytes() == b"data"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_permissions_stay(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o600)
    atomic_write(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_bytes() == b"new"
