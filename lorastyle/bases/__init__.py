"""The frozen model behind one small class, and how to load it.

Importing the package, and asking for the default base's name, does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .default import default_base

if TYPE_CHECKING:
    from .likeness import Likeness
    from .load import EMBEDDED, load_base
    from .peek import peek_family
    from .pipelines import open_pipeline
    from .precision import compute_dtype
    from .prompt_embeds import PromptEmbeds
    from .stable_diffusion import StableDiffusion
    from .stable_diffusion_xl import StableDiffusionXL

__all__ = [
    "EMBEDDED",
    "Likeness",
    "PromptEmbeds",
    "StableDiffusion",
    "StableDiffusionXL",
    "compute_dtype",
    "default_base",
    "load_base",
    "open_pipeline",
    "peek_family",
]

_NEEDS_TORCH = {
    "EMBEDDED": "load",
    "Likeness": "likeness",
    "PromptEmbeds": "prompt_embeds",
    "StableDiffusion": "stable_diffusion",
    "StableDiffusionXL": "stable_diffusion_xl",
    "compute_dtype": "precision",
    "load_base": "load",
    "open_pipeline": "pipelines",
    "peek_family": "peek",
}

if not TYPE_CHECKING:  # hidden from type checkers, so that a misspelt name stays an error for them

    def __getattr__(name: str) -> object:
        if name not in _NEEDS_TORCH:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
        globals()[name] = value
        return value
