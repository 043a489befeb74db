"""What `save_adapter` leaves on the disk: the weights, the hashes, the metadata; or nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from lorastyle.adapters import (
    Adapter,
    LowRank,
    atomic_write,
    load_adapter,
    model_hash,
    read_header,
    save_adapter,
)
from lorastyle.adapters import atomic as atomic_module
from lorastyle.errors import AdapterError, AdapterFileError
from tests.adapters.examples import SHAPES, dense, low_rank, mixed_adapter, relative_error


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-6), ("float16", 1e-3), ("bfloat16", 1e-2)])
def test_round_trip_gives_the_same_deltas(tmp_path: Path, dtype: str, most: float) -> None:
    adapter, other = mixed_adapter(), mixed_adapter(seed=1)
    path = save_adapter(adapter, tmp_path / "a.safetensors", dtype=dtype)
    again = load_adapter(path, SHAPES, name="again")
    assert again.name == "again" and again.trigger == "zkx" and again.family == "sd1"
    assert {c: set(m) for c, m in again.components.items()} == {
        c: set(m) for c, m in adapter.components.items()
    }
    for component, module, update in adapter.updates():
        delta = again.components[component][module].delta()
        assert delta.shape == SHAPES[component][module]
        assert relative_error(delta, dense(update)) < most
        assert relative_error(delta, dense(other.components[component][module])) > 0.5


def test_one_alpha_for_each_component_in_the_file(tmp_path: Path) -> None:
    path = save_adapter(mixed_adapter(), tmp_path / "a.safetensors")
    tensors = safetensors.torch.load_file(path)
    for prefix in ("lora_unet_", "lora_te_"):
        alphas = {float(t) for key, t in tensors.items() if key.startswith(prefix) and key.endswith(".alpha")}
        assert len(alphas) == 1
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight" in tensors
    assert tensors["lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight"].shape == (5, 20, 3, 3)
    assert tensors["lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight"].shape == (24, 5, 1, 1)
    assert {t.dtype for k, t in tensors.items() if not k.endswith("alpha")} == {torch.float16}


@pytest.mark.parametrize(("up_by", "down_by"), [(1e-9, 1.0), (1e7, 1e-7), (1.0, 1e-8)])
def test_float16_keeps_factors_beyond_its_range(tmp_path: Path, up_by: float, down_by: float) -> None:
    update = low_rank((24, 20), 4, 4.0)
    update = LowRank(update.down * down_by, update.up * up_by, 4.0)
    assert relative_error(update.up.half().float() @ update.down.half().float(), dense(update)) > 0.01 or (
        not update.up.half().isfinite().all()
    )
    path = save_adapter(Adapter("a", {"unet": {"m": update}}), tmp_path / "a.safetensors")
    again = load_adapter(path, {"unet": ["m"]}).components["unet"]["m"]
    assert relative_error(again.delta(), dense(update)) < 2e-3


def test_a_module_that_float16_cannot_hold_is_stored_in_float32(tmp_path: Path) -> None:
    plain = low_rank((24, 20), 2, 2.0)
    down, up = plain.down.clone(), plain.up.clone()
    down[0] *= 1e-9
    up[:, 0] *= 1e9  # a rank-one term whose halves both lie outside float16, beside a plain one
    adapter = Adapter("a", {"unet": {"plain": plain, "wide": LowRank(down, up, 2.0)}})
    path = save_adapter(adapter, tmp_path / "a.safetensors")
    dtypes = {key: entry.dtype for key, entry in read_header(path).tensors.items() if "down" in key}
    assert dtypes == {"lora_unet_plain.lora_down.weight": "F16", "lora_unet_wide.lora_down.weight": "F32"}
    again = load_adapter(path, {"unet": ["plain", "wide"]}).components["unet"]["wide"]
    assert relative_error(again.delta(), dense(adapter.components["unet"]["wide"])) < 1e-6


def test_a_fresh_adapter_that_does_nothing_yet_can_be_saved(tmp_path: Path) -> None:
    update = low_rank((24, 20), 4, 4.0)
    fresh = Adapter("a", {"unet": {"m": LowRank(update.down, torch.zeros_like(update.up), 4.0)}})
    again = load_adapter(save_adapter(fresh, tmp_path / "a.safetensors"), {"unet": ["m"]})
    assert again.components["unet"]["m"].norm() == 0
    assert torch.equal(again.components["unet"]["m"].down, update.down.half().float())


def test_zero_and_negative_alphas_keep_their_meaning(tmp_path: Path) -> None:
    updates = {f"m{i}": low_rank((24, 20), 4, alpha, i) for i, alpha in enumerate((0.0, -2.0, 8.0))}
    path = save_adapter(Adapter("a", {"unet": updates}), tmp_path / "a.safetensors", dtype="float32")
    again = load_adapter(path, {"unet": updates.keys()}).components["unet"]
    assert again["m0"].norm() == 0 and again["m0"].alpha == 8.0
    assert relative_error(again["m1"].delta(), dense(updates["m1"])) < 1e-6
    assert relative_error(again["m2"].delta(), dense(updates["m2"])) < 1e-6


def test_the_library_reads_the_file_and_agrees_on_the_hashes(tmp_path: Path) -> None:
    big = Adapter(
        "big", {"unet": {f"m{i}": low_rank((900, 800), 64, 64.0, i) for i in range(8)}}, {"ss_seed": "7"}
    )
    path = save_adapter(big, tmp_path / "a.safetensors")
    assert path.stat().st_size > 0x110000  # so that the old hash covers weights
    with safetensors.safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
    only_ss = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    plain = tmp_path / "plain.safetensors"
    plain.write_bytes(safetensors.torch.save(tensors, only_ss))
    window = plain.read_bytes()[0x100000:0x110000]
    assert metadata["sshs_legacy_hash"] == hashlib.sha256(window).hexdigest()[:8]
    data = path.read_bytes()[read_header(path).data_start :]
    assert metadata["sshs_model_hash"] == hashlib.sha256(data).hexdigest() == model_hash(plain)
    assert metadata["modelspec.hash_sha256"] == f"0x{metadata['sshs_model_hash']}"


def test_the_hash_follows_every_tensor_and_no_metadata(tmp_path: Path) -> None:
    adapter = mixed_adapter()
    first = model_hash(save_adapter(adapter, tmp_path / "a.safetensors"))
    renamed = Adapter("other name", adapter.components, {"note": "edited", "sshs_model_hash": "copied"})
    path = save_adapter(renamed, tmp_path / "b.safetensors")
    assert model_hash(path) == first == read_header(path).metadata["sshs_model_hash"]
    for i, (component, module, update) in enumerate(adapter.updates()):
        down, up = update.down.clone(), update.up.clone()
        (down, up)[i % 2].view(-1)[-1] += 0.5
        modules = {**adapter.components[component], module: LowRank(down, up, update.alpha)}
        other = Adapter("mixed", {**adapter.components, component: modules})
        assert model_hash(save_adapter(other, tmp_path / "c.safetensors")) != first


def test_metadata_for_other_tools(tmp_path: Path) -> None:
    adapter = mixed_adapter("sticker").with_metadata(
        {"lorastyle.recipe": '{"steps": 300}', "lora_adapter_metadata": "{}", "modelspec.date": "2020-01-01"}
    )
    metadata = read_header(save_adapter(adapter, tmp_path / "my file.safetensors")).metadata
    expected = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": "Dynamic",
        "ss_network_alpha": "Dynamic",
        "ss_base_model_version": "sd_v1",
        "ss_output_name": "sticker",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "sticker",
        "modelspec.date": "2020-01-01",
        "modelspec.trigger_phrase": "zkx",
        "lorastyle.recipe": '{"steps": 300}',
        "lorastyle.trigger": "zkx",
        "lorastyle.base": "sd1",
    }
    assert {key: metadata.get(key) for key in expected} == expected
    assert "lora_adapter_metadata" not in metadata
    assert not any(str(tmp_path) in value or "my file" in value for value in metadata.values())

    even = Adapter("even", {"unet": {"m": low_rank((24, 20), 4, 2.0)}}, {"lorastyle.base": "lorastyle-icons"})
    metadata = read_header(save_adapter(even, tmp_path / "b.safetensors")).metadata
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("4", "2")
    assert metadata["ss_base_model_version"] == "lorastyle-icons"


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    bad = low_rank((24, 20), 4, 4.0)
    bad.up[0, 0] = float("nan")
    with pytest.raises(AdapterError, match="m of adapter 'a' holds NaN"):
        save_adapter(Adapter("a", {"unet": {"m": bad}}), path)
    with pytest.raises(AdapterError, match="no update"):
        save_adapter(Adapter("a", {"unet": {}}), path)
    with pytest.raises(AdapterError, match='Did you mean "float16"'):
        save_adapter(mixed_adapter(), path, dtype="flaot16")
    with pytest.raises(AdapterFileError, match=r"end in .safetensors"):
        save_adapter(mixed_adapter(), tmp_path / "a.pt")
    with pytest.raises(AdapterError, match="not text"):
        save_adapter(mixed_adapter().with_metadata({"n": 3}), path)  # pyright: ignore[reportArgumentType]
    with pytest.raises(AdapterError, match="flatten to lora_unet_a_b"):
        twins = {"a.b": low_rank((24, 20), 4, 4.0), "a_b": low_rank((24, 20), 4, 4.0)}
        save_adapter(Adapter("a", {"unet": twins}), path)
    assert not list(tmp_path.iterdir())


def test_a_write_that_changes_a_byte_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_adapter(mixed_adapter(), tmp_path / "a.safetensors")
    before = path.read_bytes()
    real = os.fsync

    def flip_last_byte(descriptor: int) -> None:
        real(descriptor)
        (written,) = tmp_path.glob(".*.tmp")
        content = written.read_bytes()
        written.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    monkeypatch.setattr(atomic_module.os, "fsync", flip_last_byte)
    with pytest.raises(AdapterFileError, match="does not read back"):
        save_adapter(mixed_adapter(seed=1), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_adapter(mixed_adapter(), tmp_path / "a.safetensors")
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic_module.os, "fsync", full)
    with pytest.raises(
        AdapterFileError, match=r"No space left on device\. It needs 0\.0 MB\. Free some disk space"
    ):
        save_adapter(mixed_adapter(seed=1), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


SAVE = """
import os, resource, signal, sys
from tests.adapters.examples import mixed_adapter
from lorastyle.adapters import save_adapter
from lorastyle.errors import AdapterFileError
mode, path = sys.argv[1:]
if mode == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
elif mode == "kill":
    os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
try:
    save_adapter(mixed_adapter(seed=1), path)
except AdapterFileError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits and signals of POSIX systems")
def test_a_file_limit_and_a_kill_leave_no_half_written_adapter(tmp_path: Path) -> None:
    path = save_adapter(mixed_adapter(), tmp_path / "a.safetensors")
    before = path.read_bytes()
    assert len(before) > 4096

    def save(mode: str, target: Path) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).parents[2]
        return subprocess.run(
            [sys.executable, "-c", SAVE, mode, str(target)], cwd=root, capture_output=True, text=True
        )

    limited = save("limit", path)
    assert limited.returncode == 1 and "File too large" in limited.stderr and "unchanged" in limited.stderr
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    killed = save("kill", path)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    fine = save("plain", path)
    assert fine.returncode == 0, fine.stderr
    assert path.read_bytes() != before


def test_atomic_write_makes_folders_follows_links_and_keeps_the_umask(tmp_path: Path) -> None:
    real = tmp_path / "one" / "two" / "real.bin"
    atomic_write(real, b"first")
    link = tmp_path / "link.bin"
    link.symlink_to(real)
    atomic_write(link, [b"sec", b"ond"])
    assert real.read_bytes() == b"second" and link.is_symlink()
    plain = tmp_path / "plain.bin"
    plain.write_bytes(b"")
    assert real.stat().st_mode == plain.stat().st_mode


def test_atomic_write_is_undone_when_the_check_fails(tmp_path: Path) -> None:
    def refuse(written: Path) -> None:
        assert written.read_bytes() == b"new"
        raise KeyboardInterrupt

    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, b"new", check=refuse)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
