"""The header of a safetensors file, read first and believed last.

A file is 8 bytes of length, a JSON header, then tensor data. Everything the header claims is checked here,
in plain Python and without torch, before a byte of data is used; a pickle is never opened.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lorastyle.errors import AdapterFileError, is_unicode, near_miss, shortened

MAX_HEADER_BYTES = 50_000_000
# Brackets and commas, wherever they stand: what Python makes of a header grows with them. The largest
# adapters and checkpoints have some 50,000, and the tags of a large training some 100,000 more.
MAX_MARKS = 600_000

DTYPE_BITS: Mapping[str, int] = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F8_E8M0": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8, "C64": 64,
}  # fmt: skip
"""Every type that the safetensors format has, and the bits of one number."""

_AGAIN = "Download or export it again."
_PICKLE_NAMES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".pkl"})
PICKLE_ADVICE = (
    "Pickles can run code when they are opened, so lorastyle does not open them. "
    "Ask for a .safetensors file, or convert it in an environment that you can throw away."
)
_NOT_SAFETENSORS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file. Run `git lfs pull`, or download it."),
    (b"<", f"a web page, often a log-in or error page saved under this name. {_AGAIN}"),
    (b"PK\x03\x04", f"a zip archive, most likely a pickled checkpoint. {PICKLE_ADVICE}"),
    (b"\x80", f"a pickle. {PICKLE_ADVICE}"),
    (b"GGUF", "a GGUF model, not an adapter. Use a .safetensors adapter."),
    (b"{", f"JSON text without the 8 bytes of length that start a safetensors file. {_AGAIN}"),
)


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies. `start` and `stop` are byte offsets into the data that follows the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """A checked header: every tensor lies inside the file, none overlap, and no byte is left over."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    data_start: int
    file_bytes: int


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read and check the header of the safetensors file at `path`.

    Raises:
        AdapterFileError: no such file, no permission, a pickle or another kind of file, truncated, or a
            header that does not describe the file; the message says which, and what to do.
    """
    path = Path(path)
    if "\0" in str(path):
        raise AdapterFileError(f"{str(path)!r}: no such file; a path has no NUL character.")
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # reading a pipe would wait for ever
            raise _bad(path, "this is not an ordinary file, but a device or a pipe. Name a file.")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(64)
            _refuse_other_files(path, start, size)
            length = int.from_bytes(start[:8], "little")
            if length > MAX_HEADER_BYTES:
                raise _bad(
                    path,
                    f"its header claims {length:,} bytes; at most {MAX_HEADER_BYTES:,} are allowed. {_AGAIN}",
                )
            if 8 + length > size:
                raise _bad(
                    path, f"it is cut short: the header needs {8 + length:,} of {size:,} bytes. {_AGAIN}"
                )
            file.seek(8)
            text = file.read(length)
    except OSError as error:
        raise _unreadable(path, error) from error
    tensors, metadata = _parse(path, text)
    _check_layout(path, tensors, size - 8 - length)
    return Header(tensors, metadata, 8 + length, size)


def _bad(path: Path, why: str) -> AdapterFileError:
    return AdapterFileError.at(path, why)


def _unreadable(path: Path, error: OSError) -> AdapterFileError:
    if isinstance(error, FileNotFoundError):
        folder = path.parent
        others = [p.name for p in folder.glob("*.safetensors")] if folder.is_dir() else []
        return _bad(path, f"no such file.{near_miss(path.name, others)}")
    if path.is_dir():
        inside = sorted(p.name for p in path.glob("*.safetensors"))
        hint = (
            f"Name one of the files in it: {', '.join(inside[:5])}."
            if inside
            else "It holds no .safetensors."
        )
        return _bad(path, f"this is a folder. {hint}")
    return _bad(path, f"cannot be read ({error.strerror or error}).")


def _refuse_other_files(path: Path, start: bytes, size: int) -> None:
    if size == 0:
        raise _bad(path, f"the file is empty. {_AGAIN}")
    length = int.from_bytes(start[:8], "little")
    if 0 < length <= MAX_HEADER_BYTES and start[8:9] == b"{":
        return
    if path.suffix.lower() in _PICKLE_NAMES:
        raise _bad(path, f"this is a pickle by its name. {PICKLE_ADVICE}")
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, what in _NOT_SAFETENSORS:
        if text.startswith(signature):
            raise _bad(path, f"this is {what}")
    if size < 10:
        raise _bad(path, f"{size} bytes are too few for a safetensors file. {_AGAIN}")
    if length > MAX_HEADER_BYTES and start[8:9] == b"{":
        return  # the caller names the bogus length
    raise _bad(path, f"this is not a safetensors file (no header where one must be). {_AGAIN}")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _parse(path: Path, text: bytes) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    if sum(text.count(mark) for mark in (b"{", b"[", b",")) > MAX_MARKS:
        raise _bad(path, f"its header has more than {MAX_MARKS:,} parts, which no adapter and no base needs.")
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"its header is not valid JSON ({error}). {_AGAIN}") from error
    if not isinstance(content, dict):
        raise _bad(path, f"its header is not a JSON object. {_AGAIN}")
    entries = cast("dict[str, object]", content)
    raw = entries.pop("__metadata__", {})
    if not isinstance(raw, dict):
        raise _bad(path, f"__metadata__ in its header is not an object. {_AGAIN}")
    metadata: dict[str, str] = {}
    for key, value in cast("dict[str, object]", raw).items():
        if not isinstance(value, str):
            what = f"the metadata value of {shortened(key)} is {shortened(value)}"
            raise _bad(path, f"{what}; safetensors allows text only. {_AGAIN}")
        if not is_unicode(key) or not is_unicode(value):
            raise _bad(path, f"the metadata of {shortened(key)} is not text in UTF-8. {_AGAIN}")
        metadata[key] = value
    return {name: _entry(path, name, value) for name, value in entries.items()}, metadata


def _entry(path: Path, name: str, value: object) -> TensorEntry:
    if not name.isprintable():  # names end up in messages, and a terminal obeys control characters
        raise _bad(path, f"a tensor is called {shortened(name)}, which is no name. {_AGAIN}")
    if not isinstance(value, dict):
        raise _bad(path, f"tensor {shortened(name)} has no description in the header. {_AGAIN}")
    fields = cast("dict[str, object]", value)
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        what = f"tensor {shortened(name)} has the type {shortened(dtype)}"
        raise _bad(path, f"{what}; known are {', '.join(DTYPE_BITS)}. {_AGAIN}")
    sizes, ends = _counts(shape), _counts(offsets)
    if sizes is None or ends is None or len(ends) != 2:
        what = f"tensor {shortened(name)} has shape {shortened(shape)} at {shortened(offsets)}"
        raise _bad(path, f"{what}, which cannot be. {_AGAIN}")
    entry = TensorEntry(dtype, sizes, *ends)
    bits, given = entry.size * DTYPE_BITS[dtype], entry.stop - entry.start
    if bits != 8 * given:
        what = f"tensor {shortened(name)}, {dtype} of shape {shortened(list(sizes))}"
        raise _bad(path, f"{what}, needs {-(-bits // 8):,} bytes but is given {given:,}. {_AGAIN}")
    return entry


def _counts(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    counts = tuple(item for item in items if type(item) is int and 0 <= item < 2**63)
    return counts if len(counts) == len(items) else None


def _check_layout(path: Path, tensors: Mapping[str, TensorEntry], data_bytes: int) -> None:
    reached = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != reached:
            what = "overlaps another" if entry.start < reached else "leaves a gap before it"
            raise _bad(path, f"tensor {name!r} at {entry.start:,}-{entry.stop:,} {what}. {_AGAIN}")
        reached = entry.stop
    if reached > data_bytes:
        raise _bad(
            path, f"it is cut short: {data_bytes:,} of {reached:,} bytes of tensors are there. {_AGAIN}"
        )
    if reached < data_bytes:
        raise _bad(path, f"{data_bytes - reached:,} bytes follow the last tensor, which cannot be. {_AGAIN}")
