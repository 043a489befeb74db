"""Every number type that the safetensors format has, in every command that reads an adapter."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from lorastyle.adapters import load_adapter, read_header, read_info
from lorastyle.adapters.contents import read_parts
from lorastyle.adapters.header import DTYPE_BITS
from lorastyle.errors import AdapterFileError

from .conftest import Said

Run = Callable[..., Said]
PATH = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"  # 96 x 96 in the embedded base
KOHYA = f"lora_unet_{PATH.replace('.', '_')}"
SHAPES = {"unet": {PATH: (96, 96)}}
ICONS = {"lorastyle.base": "lorastyle-icons"}
FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float32,  # of powers of two; see `powers`
}
ALL_COMMANDS = ("F64", "F8_E4M3", "I8", "F4")  # what differs between types is the reading, which they share
REFUSED = tuple(dtype for dtype in DTYPE_BITS if dtype not in FLOATS)


def write(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]], **metadata: str) -> Path:
    """A safetensors file of raw bytes, for types that no library here writes."""
    header: dict[str, object] = {"__metadata__": {**ICONS, **metadata}}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def raw(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def factors(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(4, 96, generator=random), torch.randn(96, 4, generator=random)


def in_type(dtype: str, tensor: Tensor) -> tuple[bytes, Tensor]:
    """The bytes of a tensor in a type, and the numbers that they stand for."""
    if dtype == "F8_E8M0":
        exponents = torch.arange(tensor.numel(), dtype=torch.uint8).reshape(tensor.shape) % 7 + 122
        return raw(exponents), torch.pow(2.0, exponents.double() - 127)
    if dtype in FLOATS:
        stored = tensor.to(FLOATS[dtype])
        return raw(stored), stored.double()
    bits = DTYPE_BITS[dtype] * tensor.numel()
    return bytes(i % 2 for i in range(bits // 8)), torch.zeros(())


def file_of(path: Path, dtype: str, *, seed: int = 0) -> tuple[Path, Tensor]:
    """A LoRA whose factors and alpha are of one type, and the update that it means."""
    (down, a), (up, b) = (in_type(dtype, factor) for factor in factors(seed))
    two = torch.tensor(2.0)
    alpha = in_type(dtype, two) if dtype in FLOATS else (struct.pack("<f", 2.0), two)
    tensors = {
        f"{KOHYA}.lora_down.weight": (dtype, (4, 96), down),
        f"{KOHYA}.lora_up.weight": (dtype, (96, 4), up),
        f"{KOHYA}.alpha": (dtype if dtype in FLOATS else "F32", (), alpha[0]),
    }
    return write(path, tensors), float(alpha[1]) / 4 * (b @ a) if dtype in FLOATS else torch.zeros(())


@pytest.mark.parametrize("dtype", FLOATS)
def test_floating_point_is_widened_in_every_command(lorastyle: Run, tmp_path: Path, dtype: str) -> None:
    file, meant = file_of(tmp_path / "a.safetensors", dtype)
    other, _ = file_of(tmp_path / "b.safetensors", "F32", seed=1)
    update = load_adapter(file, SHAPES).components["unet"][PATH]
    assert update.up.dtype in (torch.float32, torch.float16, torch.bfloat16)
    assert torch.allclose(update.delta().double(), meant, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(update.delta().double(), 1.1 * meant, rtol=1e-5, atol=1e-6)
    assert read_info(file).dtypes == (dtype,) and read_parts(file)[0].modules[0].alpha == update.alpha
    commands = [
        ("info", file),
        ("convert", file, "converted.safetensors", "--dtype", "float32"),
        ("merge", file, other, "-o", "merged.safetensors", "--dtype", "float32"),
    ]
    if dtype in ALL_COMMANDS:
        commands += [
            ("inspect", file),
            ("verify", file, "converted.safetensors"),
            ("resize", file, "small.safetensors", "--rank", 2),
            ("interference", file, other),
            ("library", "add", file),
        ]
    for command in commands:
        said = lorastyle(*command)
        assert said.code == 0 and said.err == "", said.err
    both = load_adapter("merged.safetensors", SHAPES).components["unet"][PATH].delta()
    parts = meant + load_adapter(other, SHAPES).components["unet"][PATH].delta().double()
    assert torch.allclose(both.double(), parts, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", REFUSED)
def test_other_types_are_refused_in_every_command(lorastyle: Run, tmp_path: Path, dtype: str) -> None:
    file, _ = file_of(tmp_path / "a.safetensors", dtype)
    other, _ = file_of(tmp_path / "b.safetensors", "F32", seed=1)
    assert lorastyle("info", file).code == 0  # the header can be told
    said = lorastyle("inspect", file)
    assert said.code == 0 and f"is stored as {dtype}" in said.out and "lorastyle convert" not in said.out
    commands = [("convert", file, "c.safetensors"), ("merge", file, other, "-o", "c.safetensors")]
    if dtype in ALL_COMMANDS:
        commands += [
            ("verify", file, other),
            ("resize", file, "c.safetensors", "--rank", 2),
            ("interference", file, other),
            ("generate", "a cat", "--steps", 1, "-a", file, "--out", "c.png"),
        ]
    for command in commands:
        said = lorastyle(*command)
        assert said.code == 1 and said.err.count("\n") == 1, said.err
        assert f"is stored as {dtype}" in said.err and "float16, bfloat16 or float32" in said.err
        assert not Path("c.safetensors").exists()


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2FNUZ", "F8_E8M0"])
def test_8_bits_draw_as_the_numbers_they_stand_for(lorastyle: Run, tmp_path: Path, dtype: str) -> None:
    file, _ = file_of(tmp_path / "a.safetensors", dtype)
    drawn = ("generate", "a cat", "--steps", 1, "--seed", 1)
    assert lorastyle(*drawn, "-a", f"{file}:0.05", "--out", "a.png").code == 0
    assert lorastyle("convert", file, "b.safetensors", "--dtype", "float32").code == 0
    assert lorastyle(*drawn, "-a", "b.safetensors:0.05", "--out", "b.png").code == 0
    assert lorastyle(*drawn, "--out", "c.png").code == 0
    a, b, c = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "abc")
    assert np.array_equal(a, b) and not np.array_equal(a, c)


# ---- scales beside the tensors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end", ["scale_weight", "weight_scale", "weight.scale", "weight_scale_inv", "weight_fp8_scale"]
)
@pytest.mark.parametrize("shape", ["all", "rows", "column"])
@pytest.mark.parametrize("dtype", ["F8_E4M3", "I8"])
def test_the_scale_beside_a_tensor_is_applied(tmp_path: Path, end: str, shape: str, dtype: str) -> None:
    down, up = factors()
    tensors: dict[str, Tensor] = {f"{KOHYA}.alpha": torch.tensor(4.0)}
    for name, factor in (("lora_down", down), ("lora_up", up)):
        by_row = shape != "all"
        largest = factor.abs().amax(1, keepdim=True) if by_row else factor.abs().max()
        scale = largest / 120
        scaled = factor / scale
        stored = scaled.to(torch.float8_e4m3fn) if dtype == "F8_E4M3" else scaled.round().to(torch.int8)
        tensors[f"{KOHYA}.{name}.weight"] = stored
        form: dict[str, tuple[int, ...]] = {"all": (), "rows": (-1,), "column": (-1, 1)}
        tensors[f"{KOHYA}.{name}.{end}"] = scale.reshape(form[shape])
        tensors[f"{KOHYA}.{name}.scale_input"] = torch.tensor(77.0)
        tensors[f"{KOHYA}.{name}.input_scale"] = torch.tensor(77.0)
    tensors["scaled_fp8"] = torch.zeros(0, dtype=torch.float8_e4m3fn)
    save_file(tensors, tmp_path / "a.safetensors", ICONS)
    delta = load_adapter(tmp_path / "a.safetensors", SHAPES).components["unet"][PATH].delta()
    error = float((delta - up @ down).norm() / (up @ down).norm())
    assert error < (0.06 if dtype == "F8_E4M3" else 0.02)
    assert read_info(tmp_path / "a.safetensors").notes == ()


def test_scales_of_blocks_of_module_and_of_rows_over_127(tmp_path: Path) -> None:
    name = "lora_unet_a"
    wide, up = torch.randint(-9, 9, (4, 300)).float(), torch.ones(8, 4)
    blocks = torch.tensor([[2.0, 3.0, 5.0]])
    expected = up @ (wide * blocks.repeat_interleave(128, 1)[:, :300])
    files = {
        "blocks": {
            f"{name}.lora_down.weight": wide.to(torch.float8_e4m3fn),
            f"{name}.lora_down.weight_scale_inv": blocks,
        },
        "zero": {
            f"{name}.lora_down.weight": (wide + 20).to(torch.uint8),
            f"{name}.lora_down.weight_scale": torch.tensor(0.5),
            f"{name}.lora_down.weight_zero_point": torch.tensor(20),
        },
        "rows": {
            f"{name}.lora_down.weight": wide.to(torch.int8),
            f"{name}.lora_down.SCB": torch.tensor([127.0, 254.0, 0.0, 127.0]),
        },
    }
    meant = {
        "blocks": expected,
        "zero": up @ (0.5 * wide),
        "rows": up @ (torch.tensor([[1.0], [2.0], [0.0], [1.0]]) * wide),
    }
    for which, tensors in files.items():
        save_file({**tensors, f"{name}.lora_up.weight": up}, tmp_path / "a.safetensors")
        update = load_adapter(tmp_path / "a.safetensors", {"unet": {"a": (8, 300)}}).components["unet"]["a"]
        assert torch.equal(update.delta(), meant[which]), which
    whole = {f"{name}.diff": wide.to(torch.float8_e4m3fn), f"{name}.scale_weight": torch.tensor(3.0)}
    save_file(whole, tmp_path / "a.safetensors")  # one tensor: it is clear which is meant
    dense = load_adapter(tmp_path / "a.safetensors", {"unet": {"a": (4, 300)}}).dense["unet"]["a"]
    assert torch.equal(dense.tensors()["diff"], 3 * wide)


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"scale_weight": torch.tensor(2.0)}, "does not say which tensor"),
        ({"lora_down.weight_scale": torch.ones(7)}, "a scale of shape \\(7,\\), which does not fit"),
        ({"lora_down.absmax": torch.ones(7)}, "quantised in a way that lorastyle does not read"),
    ],
)
def test_scales_that_cannot_be_used_are_refused(tmp_path: Path, extra: dict[str, Tensor], why: str) -> None:
    tensors = {
        f"{KOHYA}.lora_{side}.weight": factor.to(torch.float8_e4m3fn)
        for side, factor in zip(("down", "up"), factors(), strict=True)
    }
    save_file({**tensors, **{f"{KOHYA}.{k}": t for k, t in extra.items()}}, tmp_path / "a.safetensors")
    with pytest.raises(AdapterFileError, match=why):
        load_adapter(tmp_path / "a.safetensors", SHAPES)


# ---- what was written is what is reported -----------------------------------------------------------------


def test_reports_tell_the_types_that_were_written(lorastyle: Run, tmp_path: Path) -> None:
    """Values that float16 is too coarse for are stored in float32, and every command says so."""
    random = torch.Generator().manual_seed(4)
    other = KOHYA.replace("to_q", "to_k")
    tensors = {
        f"{KOHYA}.lora_down.weight": torch.randn(8, 96, generator=random) * 3e-6,
        f"{KOHYA}.lora_up.weight": torch.randn(96, 8, generator=random) * 3e-6,
        f"{other}.lora_down.weight": torch.randn(4, 96, generator=random),
        f"{other}.lora_up.weight": torch.randn(96, 4, generator=random),
    }
    save_file(tensors, tmp_path / "a.safetensors", ICONS)
    save_file({k: 2 * t for k, t in tensors.items()}, tmp_path / "b.safetensors", ICONS)
    half = ("--dtype", "float16")
    for command, target in (
        (("convert", "a.safetensors", "c.safetensors"), "c.safetensors"),
        (("resize", "a.safetensors", "r.safetensors", "--rank", 8), "r.safetensors"),
        (("merge", "a.safetensors", "b.safetensors", "-o", "m.safetensors"), "m.safetensors"),
    ):
        said = lorastyle(*command, *half)
        stored = {e.dtype for k, e in read_header(tmp_path / target).tensors.items() if "alpha" not in k}
        assert stored == {"F16", "F32"} and "float32 and float16" in said.out, said
    plain = {k: t for k, t in tensors.items() if other in k}
    save_file(plain, tmp_path / "p.safetensors", ICONS)
    assert (
        "kohya names, float16, 1 module" in lorastyle("convert", "p.safetensors", "q.safetensors", *half).out
    )
