"""What a path names: one safetensors file, or a peft folder of one or more components."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lorastyle.errors import AdapterFileError

from .families import Witnesses, witnesses
from .formats import COMPONENTS
from .formats.peft import WEIGHTS, check_config
from .formats.quantised import Quantised, find_quantised
from .formats.stated import CONFIG, check_stated
from .header import PICKLE_ADVICE, Header, read_header

_MOST_CONFIG_BYTES = 10_000_000
_BLOCK = 1 << 20
CONFIGS = tuple(f"{part}{CONFIG}" for part in ("", *(f"{component}/" for component in COMPONENTS)))
"""Where a peft folder may have its configuration, or one for each component."""


@dataclass(frozen=True)
class Source:
    """One safetensors file of an adapter.

    `component` is the one that a peft folder's name says; None leaves it to the tensors' names. `metadata` is
    the header's, and holds the text of a peft configuration under its file name.
    """

    path: Path
    header: Header
    metadata: Mapping[str, str]
    component: str | None = None

    @cached_property
    def quantised(self) -> Quantised:
        """Which of its tensors scale which others."""
        return find_quantised(self.header.tensors)

    @cached_property
    def witnesses(self) -> Witnesses:
        """What its names and sizes say of the base that it was made for."""
        return witnesses({name: entry.shape for name, entry in self.header.tensors.items()})


def adapter_files(path: str | os.PathLike[str]) -> list[tuple[Path, str | None]]:
    """(safetensors file, component that its folder's name says) of the adapter at `path`.

    A path that is no peft folder stands for itself.

    Raises:
        AdapterFileError: a peft folder whose weights are a pickle.
    """
    path = Path(path)
    if "\0" in str(path) or not path.is_dir():
        return [(path, None)]
    if (path / CONFIG).is_file():
        return [(_weights(path), path.name if path.name in COMPONENTS else None)]
    parts = [(_weights(path / c), c) for c in COMPONENTS if (path / c / CONFIG).is_file()]
    return list(parts) or [(path, None)]


def open_sources(path: str | os.PathLike[str]) -> list[Source]:
    """The checked headers of the adapter at `path`, and the peft configuration beside each.

    Raises:
        AdapterFileError: a file is damaged or unsafe, or a configuration is not that of a LoRA.
    """
    return [_open(file, component) for file, component in adapter_files(path)]


def _weights(folder: Path) -> Path:
    file = folder / WEIGHTS
    if not file.exists() and (folder / "adapter_model.bin").exists():
        raise AdapterFileError.at(folder, f"its weights, adapter_model.bin, are a pickle. {PICKLE_ADVICE}")
    return file


def _open(file: Path, component: str | None) -> Source:
    header = read_header(file)
    config = file.parent / CONFIG
    if file.name != WEIGHTS or not config.is_file():
        _check(file, header.metadata)
        return Source(file, header, header.metadata, component)
    try:
        if config.stat().st_size > _MOST_CONFIG_BYTES:
            raise AdapterFileError.at(config, f"more than {_MOST_CONFIG_BYTES:,} bytes are none of peft's.")
        text = config.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AdapterFileError.at(config, f"cannot be read ({error}).") from error
    metadata = {**header.metadata, CONFIG: text}
    try:
        check_config(text)
    except AdapterFileError as error:
        raise AdapterFileError.at(file.parent, str(error)) from error
    _check(file.parent, metadata)
    return Source(file, header, metadata, component)


def _check(path: Path, metadata: Mapping[str, str]) -> None:
    try:
        check_stated(metadata)
    except AdapterFileError as error:
        raise AdapterFileError.at(path, str(error)) from error


def model_hash(path: str | os.PathLike[str]) -> str:
    """sha256 (hex) of the tensor data alone, so that editing metadata does not change it.

    The rule is kohya's `sshs_model_hash`: all bytes after the header. A peft folder's files are taken one
    after another.

    Raises:
        AdapterFileError: see `open_sources`.
    """
    digest = hashlib.sha256()
    for source in open_sources(path):
        try:
            with source.path.open("rb") as file:
                file.seek(source.header.data_start)
                while block := file.read(_BLOCK):
                    digest.update(block)
        except OSError as error:
            raise AdapterFileError.at(source.path, f"cannot be read ({error.strerror or error}).") from error
    return digest.hexdigest()


def content_hash(path: str | os.PathLike[str]) -> str:
    """sha256 (hex) of all that an adapter is read from: names and metadata, too, and a peft configuration.

    Raises:
        AdapterFileError: a file cannot be read; see also `open_sources`.
    """
    digest = hashlib.sha256()
    for source in open_sources(path):
        try:
            digest.update(f"{source.component}: {file_hash(source.path)} ".encode())
        except OSError as error:
            raise AdapterFileError.at(source.path, f"cannot be read ({error.strerror or error}).") from error
        digest.update(repr(source.metadata.get(CONFIG)).encode())
    return digest.hexdigest()


def file_hash(path: str | os.PathLike[str]) -> str:
    """sha256 (hex) of all bytes of a file, read in blocks. Raises OSError."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def is_adapter_folder(path: str | os.PathLike[str]) -> bool:
    """Whether it is a folder as peft writes them."""
    try:
        return any((Path(path) / config).is_file() for config in CONFIGS)
    except (OSError, ValueError):  # a name that no file can have
        return False


def adapter_folder_files(files: Collection[str]) -> list[str]:
    """Those of a repository's or folder's files ("unet/adapter_config.json") that make it a peft folder; none
    where it is not one.
    """
    configs = CONFIGS[:1] if CONFIG in files else CONFIGS[1:]
    parts = [config.removesuffix(CONFIG) for config in configs if config in files]
    return [f"{part}{name}" for part in parts for name in (CONFIG, WEIGHTS) if f"{part}{name}" in files]
