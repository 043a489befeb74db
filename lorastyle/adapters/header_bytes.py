"""Writing a safetensors header, with the hashes that other tools look for; and changing one in place."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lorastyle.errors import AdapterError, AdapterFileError, is_unicode

from .atomic import atomic_write
from .header import TensorEntry, read_header

# kohya hashes this window of the file for its older, 8-digit hash
_LEGACY_START, _LEGACY_BYTES = 0x100000, 0x10000
_BLOCK = 1 << 20


def hashed_header(
    entries: Mapping[str, TensorEntry],
    metadata: Mapping[str, str],
    digest: str,
    read: Callable[[int, int], bytes],
) -> bytes:
    """The header's bytes, its length first.

    `sshs_model_hash`, `sshs_legacy_hash` and `modelspec.hash_sha256` are written anew, whatever `metadata`
    says: tools that find the same hash in two files take them for the same adapter.

    Args:
        digest: sha256 of the tensor data.
        read: (start, count) -> bytes of the tensor data.
    """
    kohya_only = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    plain = safetensors_header(entries, kohya_only)
    head = plain[_LEGACY_START : _LEGACY_START + _LEGACY_BYTES]
    window = head + read(max(_LEGACY_START - len(plain), 0), _LEGACY_BYTES - len(head))
    final = {
        **metadata,
        "sshs_model_hash": digest,
        "sshs_legacy_hash": hashlib.sha256(window).hexdigest()[:8],
        "modelspec.hash_sha256": f"0x{digest}",
    }
    return safetensors_header(entries, final)


def set_metadata(path: str | os.PathLike[str], changes: Mapping[str, str | None]) -> None:
    """Change what a safetensors file says about itself, and no byte of its tensors.

    The file is replaced whole or not at all. The hashes in it are written anew, and are the same.

    Args:
        changes: {key: text}, or None for a key to take away.

    Raises:
        AdapterError: a key or a value is not text.
        AdapterFileError: the file is damaged, or cannot be written.
    """
    path = Path(path)
    header = read_header(path)
    for key, value in changes.items():
        if not is_unicode(key) or not (value is None or is_unicode(value)):
            raise AdapterError(f"Metadata {key!r} is not text in UTF-8.")
    metadata = {k: v for k, v in {**header.metadata, **changes}.items() if v is not None}
    try:
        with path.open("rb") as file:

            def read(start: int, count: int) -> bytes:
                file.seek(header.data_start + start)
                return file.read(count)

            def blocks() -> Iterator[bytes]:
                yield new
                file.seek(header.data_start)
                while block := file.read(_BLOCK):
                    yield block

            digest = hashlib.sha256()
            file.seek(header.data_start)
            while block := file.read(_BLOCK):
                digest.update(block)
            new = hashed_header(header.tensors, metadata, digest.hexdigest(), read)
            atomic_write(path, blocks())
    except OSError as error:
        raise AdapterFileError.at(path, f"cannot be written ({error.strerror or error}).") from error


def safetensors_header(entries: Mapping[str, TensorEntry], metadata: Mapping[str, str]) -> bytes:
    """The bytes before the tensor data: the length, and the JSON padded to eight bytes."""
    content: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    for name, entry in entries.items():
        content[name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.start, entry.stop],
        }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
