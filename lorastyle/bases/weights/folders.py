"""Which files of a pipeline's folder make the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..folder import PARTS, inspect_folder
from .stored import weight_files

_WEIGHTS = frozenset({".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".onnx", ".h5", ".safetensors"})


def copied_files(folder: Path) -> Iterator[tuple[Path, Path]]:
    """(file, its place in the folder) of a pipeline: all that is small, and the weights that it is loaded
    from; not pickles, other variants, or what lies beside.
    """
    found = inspect_folder(folder, str(folder))
    parts = PARTS[found.kind]
    used = {file for part in parts for file in weight_files(folder / part, found.variant)}
    for file in sorted(folder.rglob("*")):
        place = file.relative_to(folder)
        hidden = any(name.startswith(".") for name in place.parts)
        if file.is_file() and not hidden and (file in used or file.suffix not in _WEIGHTS):
            yield file, place
