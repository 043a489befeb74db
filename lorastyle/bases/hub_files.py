"""Which files of a model's repository drawing needs: half the usual download, or a sentence before any."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from lorastyle.errors import BaseError

from .folder import COMPONENTS

_WEIGHTED = ("unet", "vae", "text_encoder")  # and text_encoder_2
_SMALL = {".json", ".txt"}  # configs and vocabularies


def needed_files(files: Iterable[str], name: str) -> list[str]:
    """Configs, vocabularies and safetensors weights of the parts; in half precision where all have that.

    Args:
        files: the paths in the repository.
        name: what the user called it, for the errors.

    Raises:
        BaseError: there is no pipeline in it, or a part has no weights that are opened.
    """
    files = sorted(files)
    if "model_index.json" not in files:
        single = next((file for file in files if file.endswith(".safetensors")), None)
        step = (
            f"It has single files: `hf download {name.split('@')[0]} {single}`, then name that file."
            if single
            else 'Choose one in the layout of diffusers, or use "embedded".'
        )
        raise BaseError(f'The base "{name}" has no model_index.json on the Hub: no pipeline. {step}')
    parts = {part: [file for file in files if _part(file) == part] for part in COMPONENTS}
    weights = {
        part: [file for file in of_part if file.endswith(".safetensors") and ".non_ema" not in file]
        for part, of_part in parts.items()
        if of_part and part.startswith(_WEIGHTED)
    }
    half = {part: [file for file in found if ".fp16" in file] for part, found in weights.items()}
    plain = {part: [file for file in found if ".fp16" not in file] for part, found in weights.items()}
    chosen = half if all(half.values()) else plain
    for part, found in chosen.items():
        if not found:
            pickled = [file for file in parts[part] if file.endswith((".bin", ".ckpt", ".pt"))]
            told = f", only {pickled[0]}: pickles can run code and are not opened" if pickled else ""
            told = f", only {half[part][0]}, which other parts lack" if half[part] else told
            raise BaseError(
                f'The base "{name}" has no weights (*.safetensors) in {part}/ on the Hub{told}. '
                "Choose another revision or copy of the model."
            )
    small = [file for of_part in parts.values() for file in of_part if PurePosixPath(file).suffix in _SMALL]
    indices = {file for file in small if ".safetensors.index" in file or file.endswith(".bin.index.json")}
    mine = [file for file in indices if ".bin" not in file and (".fp16" in file) == (chosen is half)]
    return sorted(
        {"model_index.json", *small, *(file for found in chosen.values() for file in found)} - indices
        | set(mine)
    )


def _part(file: str) -> str | None:
    where = PurePosixPath(file)
    return where.parts[0] if len(where.parts) == 2 else None
