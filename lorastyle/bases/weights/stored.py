"""The weights of a base where they lie, read one at a time: what compares or changes two models of many
gigabytes needs no model in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lorastyle.adapters import Header, read_header, read_tensors
from lorastyle.errors import AdapterFileError, BaseError

from ..family import family_from_width
from ..folder import PARTS, inspect_folder
from ..load import locate
from ..single_file import Source, inspect_checkpoint

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
_WEIGHTS = re.compile(r"(?:diffusion_pytorch_model|model)(?P<variant>\.fp16)?(?:-\d+-of-\d+)?\.safetensors")
_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})
_TABLES = ("embeddings.", "position_ids")  # of words and places: no layers


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a model, and where it lies."""

    file: Path
    header: Header
    source: Source

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape(self.header.tensors[self.source.key].shape)

    @property
    def dtype(self) -> str:
        """As safetensors writes it: "F16"."""
        return self.header.tensors[self.source.key].dtype

    def read(self) -> Tensor:
        """The tensor as the model has it, in float32.

        Raises:
            BaseError: the file changed meanwhile, or cannot be read; or the numbers are not floating point.
        """
        if self.dtype not in _FLOATS:
            raise BaseError(
                f"{self.file}: {self.source.key} is stored as {self.dtype}, and what its numbers stand for "
                "is not read. Use the base in float16, bfloat16 or float32."
            )
        try:
            stored = read_tensors(self.file, self.header, [self.source.key])[self.source.key]
        except AdapterFileError as error:
            raise BaseError(str(error)) from error
        return self.source.weight(stored, torch.float32)


@dataclass(frozen=True)
class StoredBase:
    """A base on disk.

    Attributes:
        name: as the user called it.
        path: its folder or file.
        is_file: whether it is one checkpoint.
        tensors: {component: {name: tensor}}, with the names of diffusers and transformers; of the UNet and
            the text encoders.
        headers: of the files that these are in.
    """

    name: str
    path: Path
    family: str
    is_file: bool
    tensors: Mapping[str, Mapping[str, StoredTensor]]
    headers: Mapping[Path, Header]

    @property
    def shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """{component: {module path: shape of its weight}} of linear, convolution and norm layers."""
        return {
            component: {path: stored.shape for path, stored in self._layers(component)}
            for component in self.tensors
        }

    def weight(self, component: str, path: str) -> Tensor:
        """A layer's weight, in float32.

        Raises:
            BaseError: there is no such layer, or the file cannot be read.
        """
        stored = self.tensors.get(component, {}).get(f"{path}.weight")
        if stored is None:
            raise BaseError(f'The base "{self.name}" has no {component} {path}.')
        return stored.read()

    def _layers(self, component: str) -> Iterator[tuple[str, StoredTensor]]:
        for name, stored in self.tensors[component].items():
            path, _, leaf = name.rpartition(".")
            if leaf == "weight" and not any(table in name for table in _TABLES):
                yield path, stored


def open_stored(name: str) -> StoredBase:
    """The weights of a base by its name, as `load_base` reads it.

    Raises:
        BaseError: see `load_base`.
    """
    path = locate(name)
    if path.is_file():
        checkpoint = inspect_checkpoint(path, name)
        tensors = {
            component: {
                plain_name(component, key): StoredTensor(path, checkpoint.header, source)
                for key, source in part.sources.items()
            }
            for component, part in checkpoint.parts.items()
            if component in COMPONENTS
        }
        return StoredBase(
            name, path, family_from_width(checkpoint.text_width), True, tensors, {path: checkpoint.header}
        )
    folder = inspect_folder(path, name)
    found: dict[str, dict[str, StoredTensor]] = {}
    for component in (part for part in COMPONENTS if part in PARTS[folder.kind]):
        for file in weight_files(path / component, folder.variant):
            header = read_header(file)
            found.setdefault(component, {}).update(
                {
                    plain_name(component, key): StoredTensor(file, header, Source(key))
                    for key in header.tensors
                }
            )
    headers = {stored.file: stored.header for part in found.values() for stored in part.values()}
    return StoredBase(name, path, folder.family, False, found, headers)


def weight_files(folder: Path, variant: str | None) -> list[Path]:
    """The files that a part of a pipeline is loaded from."""
    suffix = None if variant is None else f".{variant}"
    matches = ((file, _WEIGHTS.fullmatch(file.name)) for file in sorted(folder.glob("*.safetensors")))
    return [file for file, found in matches if found is not None and found["variant"] == suffix]


def plain_name(component: str, name: str) -> str:
    """A tensor's name with `text_model.` where transformers has it: in the second encoder alone."""
    if component == "unet":
        return name
    bare = name.removeprefix("text_model.")
    prefixed = component == "text_encoder_2" and not bare.startswith("text_projection")
    return f"text_model.{bare}" if prefixed else bare
