"""Tensors in and out of safetensors files, with the hashes that other tools look for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from lorastyle.errors import AdapterFileError

from .atomic import atomic_write
from .header import DTYPE_BYTES, Header, TensorEntry
from .header_bytes import hashed_header

_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def read_tensors(path: str | os.PathLike[str], header: Header, names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors called `names`, in the file's own types, at places that `read_header` has checked.

    Raises:
        AdapterFileError: the file shrank since its header was read, or cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    try:
        with Path(path).open("rb") as file:
            for name in sorted(names, key=lambda n: header.tensors[n].start):
                entry = header.tensors[name]
                buffer = bytearray(entry.stop - entry.start)
                file.seek(header.data_start + entry.start)
                if file.readinto(buffer) != len(buffer):
                    raise AdapterFileError(f"{path}: the file was changed while it was read. Load it again.")
                dtype = _DTYPES[entry.dtype]
                flat = torch.frombuffer(buffer, dtype=dtype) if buffer else torch.empty(0, dtype=dtype)
                tensors[name] = flat.reshape(entry.shape)
    except OSError as error:
        raise AdapterFileError(f"{path}: cannot be read ({error.strerror or error}).") from error
    return tensors


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
        stop = start + tensor.numel() * DTYPE_BYTES[dtype]
        entries[name] = TensorEntry(dtype, tuple(tensor.shape), start, stop)
        start = stop
    body = b"".join(_bytes(tensors[name]) for name in order)
    digest = hashlib.sha256(body).hexdigest()
    header = hashed_header(entries, metadata, digest, lambda start, count: body[start : start + count])
    atomic_write(path, (header, body), check=check)
    return digest


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
