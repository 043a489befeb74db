"""Hashes of a base's weights: each part once a run, and not at all where its files were hashed before."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorastyle.adapters import atomic_write
from lorastyle.bases import StableDiffusion, WeightFiles, cache_folder

_HASH = re.compile("[0-9a-f]{64}")
_READERS = ("torch", "diffusers", "transformers", "safetensors", "bitsandbytes")


def weights_hash(module: nn.Module) -> str:
    """SHA-256 of a module's names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(raw_bytes(value))
    return digest.hexdigest()


def raw_bytes(value: Tensor) -> memoryview:
    """A tensor's bytes, without a copy where it is on the CPU."""
    flat: Any = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return memoryview(flat)


class WeightHashes:
    """`weights_hash` of each part of a base, computed when it is first asked for.

    Args:
        base: with nothing attached to it.
        files: those that it was just loaded from, where nobody can have changed the weights since. Their
            hashes are then kept in the cache folder, until one of the files changes. None hashes the weights
            as they are.
    """

    def __init__(self, base: StableDiffusion, files: WeightFiles | None = None) -> None:
        self.base = base
        self._files = files
        self._parts: Mapping[str, nn.Module] = {**base.components, "vae": base.pipe.vae}
        self._known: dict[str, str] = {} if files is None else self._read()

    def __getitem__(self, part: str) -> str:
        """Of "unet", "vae", "text_encoder" or "text_encoder_2": 64 hex digits."""
        if part not in self._known:
            self._known[part] = weights_hash(self._parts[part])
            self._keep()
        return self._known[part]

    def _read(self) -> dict[str, str]:
        """What is known of these files; nothing of files that changed since they were loaded."""
        if self._files is None or not self._files.are_unchanged:
            return {}
        try:
            known = json.loads(self._path(self._files).read_text("ascii"))
        except (OSError, ValueError, RecursionError):  # not there yet, or damaged: hashed again
            return {}
        parts = known.items() if isinstance(known, dict) else ()
        return {p: d for p, d in parts if p in self._parts and isinstance(d, str) and _HASH.fullmatch(d)}

    def _keep(self) -> None:
        if self._files is None or not (self._files.are_settled and self._files.are_unchanged):
            return
        with suppress(OSError):  # a full or read-only disk costs the same time again, not this training
            atomic_write(self._path(self._files), json.dumps(self._known).encode())

    def _path(self, files: WeightFiles) -> Path:
        """Named by everything that the weights in memory depend on."""
        mode = self.base.placement.mode
        kinds = {name: str(next(part.parameters()).dtype) for name, part in self._parts.items()}
        rounded = f"{mode.bits} {self.base.device.type}" if mode.bits else ""
        readers = [f"{name} {_version(name)}" for name in _READERS]
        key = json.dumps([files.digest, kinds, rounded, readers])
        return cache_folder() / "hashes" / f"weights-{hashlib.sha256(key.encode()).hexdigest()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
