"""Adapters that others call by another name, found by the hash of their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lorastyle.adapters import file_hash, model_hash, read_header
from lorastyle.errors import AdapterError
from lorastyle.library import SUFFIX, adapter_folders, list_adapters, look_up

_LARGEST = 2_000_000_000  # bytes of a file that may be an adapter; bases may lie beside them
# Digits of the hashes of a whole file: Civitai's AutoV1 and AutoV2, and its SHA256.
_AUTO_V1, _AUTO_V2, _WHOLE = 8, 10, 64
_V1_START, _V1_LENGTH = 0x100000, 0x10000


@dataclass(frozen=True)
class Known:
    """An adapter of this machine.

    Attributes:
        name: for `find_adapter`.
        hash: first 12 digits of its weights' sha256; None where no hash was asked for.
        same: whether it has the weights that were asked for.
    """

    name: str
    hash: str | None
    same: bool


def known_as(name: str, digest: str | None = None) -> Known | None:
    """The adapter that somebody else calls `name`: that of the same weights, else that of the same name.

    Args:
        name: a file's name with or without ".safetensors".
        digest: hex digits, in either case, that the sha256 of its tensor data begins with (A1111's hash,
            Civitai's AutoV3); of 10 and 64 digits, also those of the whole file (AutoV2, SHA256), and of 8
            those of 64 KB of it (AutoV1, A1111's before 2023).

    Returns:
        None where there is neither. A file whose header states another hash is believed, and not read.
    """
    named = _named(name)
    digest = digest and digest.lower()
    if digest is None:
        return None if named is None else Known(name, None, True)
    if named is not None and (_has(named, digest) or _stated(named).startswith(digest)):
        return Known(name, _hash(named), True)
    for entry in list_adapters((*adapter_folders(), Path("."))):
        stated = entry.told.hash
        if (not stated or stated.startswith(digest) or len(digest) in (_AUTO_V1, _AUTO_V2, _WHOLE)) and _has(
            entry.path, digest
        ):
            return Known(str(entry.path) if entry.hidden else entry.name, _hash(entry.path), True)
    return None if named is None else Known(name, _hash(named), False)


def _named(name: str) -> Path | None:
    path = look_up(name)
    return path if path is not None and path.suffix.lower() == SUFFIX else None


def _has(file: Path, digest: str) -> bool:
    """Whether `digest` begins the hash of the weights, or is the hash of the file with as many digits."""
    if _ask(file, model_hash).startswith(digest):
        return True
    if len(digest) == _AUTO_V1:
        return _ask(file, _auto_v1) == digest
    return len(digest) in (_AUTO_V2, _WHOLE) and _ask(file, file_hash).startswith(digest)


def _auto_v1(file: Path) -> str:
    """First 8 digits of the sha256 of 64 KB that begin at 1 MiB; "" of a shorter file."""
    with file.open("rb") as opened:
        opened.seek(_V1_START)
        part = opened.read(_V1_LENGTH)
    return hashlib.sha256(part).hexdigest()[:_AUTO_V1] if part else ""


def _hash(file: Path) -> str | None:
    return _ask(file, model_hash)[:12] or None


def _stated(file: Path) -> str:
    """What the header says of its weights, as kohya's trainer writes it. It may be wrong: to be checked."""
    return _ask(file, _header_hash)


_Question = Callable[[Path], str]


def _ask(file: Path, question: _Question) -> str:
    """The answer for a file as it is now, remembered; "" of one that is damaged, gone or too large."""
    try:
        about = file.stat()
        if about.st_size > _LARGEST:
            return ""
        return _answer(file.resolve(), question, about.st_mtime_ns, about.st_size)
    except (AdapterError, OSError):
        return ""


@lru_cache(maxsize=16_384)
def _answer(file: Path, question: _Question, _modified: int, _size: int) -> str:
    return question(file)


def _header_hash(file: Path) -> str:
    return read_header(file).metadata.get("sshs_model_hash", "")
