"""The frozen model behind one small class, and how to load it.

Importing the package, and asking for the default base's name, does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .cache import cache_folder, caching_in
from .default import default_base, default_memory, toml_advice
from .emphasis import as_prompt, plain_text
from .host import host_cores, host_memory

if TYPE_CHECKING:
    from .hub import cached_folder, needs_download
    from .likeness import Likeness
    from .load import EMBEDDED, load_base
    from .loaded_file import LoadedFile
    from .memory import AUTO, FOR_DRAWING, FOR_TRAINING, MODES, MemoryMode
    from .needs import (
        IMAGES_AT_ONCE,
        Attached,
        Choice,
        activations,
        autoencoder_bytes,
        choose_for_drawing,
        device_memory,
        drawing_bytes,
        explained,
        fits,
        free_memory,
        gigabytes,
        listed,
        rounded_modes,
        weight_bytes,
    )
    from .out_of_memory import is_out_of_memory, release_memory
    from .peek import Peeked, peek_base, peek_family
    from .pipelines import open_pipeline
    from .placement import Placement
    from .precision import compute_dtype
    from .prompt_embeds import PromptEmbeds
    from .stable_diffusion import StableDiffusion
    from .stable_diffusion_xl import StableDiffusionXL
    from .weight_files import WeightFiles
    from .weights import ExtractedFile, FusedBase, StoredBase, extract_adapter, fuse_base, open_stored

__all__ = [
    "AUTO",
    "EMBEDDED",
    "FOR_DRAWING",
    "FOR_TRAINING",
    "IMAGES_AT_ONCE",
    "MODES",
    "Attached",
    "Choice",
    "ExtractedFile",
    "FusedBase",
    "Likeness",
    "LoadedFile",
    "MemoryMode",
    "Peeked",
    "Placement",
    "PromptEmbeds",
    "StableDiffusion",
    "StableDiffusionXL",
    "StoredBase",
    "WeightFiles",
    "activations",
    "as_prompt",
    "autoencoder_bytes",
    "cache_folder",
    "cached_folder",
    "caching_in",
    "choose_for_drawing",
    "compute_dtype",
    "default_base",
    "default_memory",
    "device_memory",
    "drawing_bytes",
    "explained",
    "extract_adapter",
    "fits",
    "free_memory",
    "fuse_base",
    "gigabytes",
    "host_cores",
    "host_memory",
    "is_out_of_memory",
    "listed",
    "load_base",
    "needs_download",
    "open_pipeline",
    "open_stored",
    "peek_base",
    "peek_family",
    "plain_text",
    "release_memory",
    "rounded_modes",
    "toml_advice",
    "weight_bytes",
]

_LATE = {
    "AUTO": "memory",
    "Attached": "needs",
    "Choice": "needs",
    "EMBEDDED": "load",
    "ExtractedFile": "weights",
    "FOR_DRAWING": "memory",
    "FOR_TRAINING": "memory",
    "FusedBase": "weights",
    "IMAGES_AT_ONCE": "needs",
    "Likeness": "likeness",
    "LoadedFile": "loaded_file",
    "MODES": "memory",
    "MemoryMode": "memory",
    "Peeked": "peek",
    "Placement": "placement",
    "PromptEmbeds": "prompt_embeds",
    "StableDiffusion": "stable_diffusion",
    "StableDiffusionXL": "stable_diffusion_xl",
    "StoredBase": "weights",
    "WeightFiles": "weight_files",
    "activations": "needs",
    "autoencoder_bytes": "needs",
    "cached_folder": "hub",
    "choose_for_drawing": "needs",
    "compute_dtype": "precision",
    "device_memory": "needs",
    "drawing_bytes": "needs",
    "explained": "needs",
    "extract_adapter": "weights",
    "fits": "needs",
    "free_memory": "needs",
    "fuse_base": "weights",
    "gigabytes": "needs",
    "is_out_of_memory": "out_of_memory",
    "listed": "needs",
    "load_base": "load",
    "needs_download": "hub",
    "open_pipeline": "pipelines",
    "open_stored": "weights",
    "peek_base": "peek",
    "peek_family": "peek",
    "release_memory": "out_of_memory",
    "rounded_modes": "needs",
    "weight_bytes": "needs",
}

if not TYPE_CHECKING:  # hidden from type checkers, so that a misspelt name stays an error for them

    def __getattr__(name: str) -> object:
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
        globals()[name] = value
        return value
