"""Tensors in and out of safetensors files, with the hashes that other tools look for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from lorastyle.errors import AdapterFileError

from .atomic import atomic_write
from .fresh_memory import room
from .header import DTYPE_BITS, Header, TensorEntry
from .header_bytes import hashed_header

_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool, "C64": torch.complex64, "F8_E8M0": torch.uint8,
}  # fmt: skip
_PACKED = frozenset({"F4", "F6_E2M3", "F6_E3M2"})  # several numbers share a byte
_SMALL_GAP = 65_536  # bytes that are read along, rather than reading twice
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name != "F8_E8M0"}


def read_tensors(path: str | os.PathLike[str], header: Header, names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors called `names`, in the file's own types, at places that `read_header` has checked.

    What lies side by side in the file is read at once, and lies side by side in memory. Powers of two
    (F8_E8M0) come as bytes, for not every version of torch has that type; `powers_of_two` reads them.

    Raises:
        AdapterFileError: the file shrank since its header was read, or cannot be read; or a tensor has a type
            of fewer than 8 bits.
    """
    tensors: dict[str, Tensor] = {}
    names = list(names)
    for name in names:
        if (dtype := header.tensors[name].dtype) in _PACKED:
            raise AdapterFileError.at(
                path,
                f"{name} is stored as {dtype}, a type of {DTYPE_BITS[dtype]} bits that lorastyle does not "
                "read. Export the file again in float16, bfloat16 or float32.",
            )
    try:
        with Path(path).open("rb", buffering=0) as file:
            for run in _runs(header, names):
                start, stop = header.tensors[run[0]].start, header.tensors[run[-1]].stop
                buffer = room(stop - start)
                file.seek(header.data_start + start)
                if _fill(file, buffer) != stop - start:
                    raise AdapterFileError.at(path, "the file was changed while it was read. Load it again.")
                for name in run:
                    tensors[name] = _tensor(buffer, header.tensors[name], start)
    except OSError as error:
        raise AdapterFileError.at(path, f"cannot be read ({error.strerror or error}).") from error
    return tensors


def _runs(header: Header, names: Iterable[str]) -> list[list[str]]:
    """The names in the order of the file, a new list after each gap that is worth a read of its own."""
    runs: list[list[str]] = []
    end = -1
    for name in sorted(names, key=lambda name: header.tensors[name].start):
        entry = header.tensors[name]
        if end < 0 or entry.start - end > _SMALL_GAP:
            runs.append([])
        runs[-1].append(name)
        end = entry.stop
    return runs


def _fill(file: FileIO, buffer: Tensor) -> int:
    """Read until the buffer (bytes) is full or the file ends; how many bytes there were."""
    view = memoryview(cast(Any, buffer.numpy()))
    done = 0
    while done < len(view) and (count := file.readinto(view[done:])):
        done += count
    return done


def _tensor(buffer: Tensor, entry: TensorEntry, start: int) -> Tensor:
    mine = buffer[entry.start - start : entry.stop - start]
    dtype = _DTYPES[entry.dtype]
    if mine.storage_offset() % dtype.itemsize:  # some writers align nothing
        mine = mine.clone()
    return mine.view(dtype).view(entry.shape)


def powers_of_two(exponents: Tensor) -> Tensor:
    """The numbers that bytes of F8_E8M0 stand for: the exponent of a power of two, plus 127, and 255 for NaN
    (OCP Microscaling Formats 1.0).
    """
    powers = torch.pow(2.0, exponents.double() - 127).float()
    return powers.masked_fill(exponents == 255, float("nan"))


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    check: Callable[[Path], None] | None = None,
) -> str:
    """Write a safetensors file atomically, and answer with the sha256 of its tensor data.

    `sshs_model_hash`, `sshs_legacy_hash` and `modelspec.hash_sha256` are computed anew, whatever `metadata`
    says: tools that find the same hash in two files take them for the same adapter.

    Raises:
        OSError: see `atomic_write`; and whatever `check` raises.
    """
    # the largest numbers first, which keeps every type aligned
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    entries: dict[str, TensorEntry] = {}
    start = 0
    for name in order:
        tensor, dtype = tensors[name], _NAMES[tensors[name].dtype]
        stop = start + tensor.numel() * DTYPE_BITS[dtype] // 8
        entries[name] = TensorEntry(dtype, tuple(tensor.shape), start, stop)
        start = stop
    body = b"".join(_bytes(tensors[name]) for name in order)
    digest = hashlib.sha256(body).hexdigest()
    header = hashed_header(entries, metadata, digest, lambda start, count: body[start : start + count])
    atomic_write(path, (header, body), check=check)
    return digest


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
