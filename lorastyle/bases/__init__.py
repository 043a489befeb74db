"""The frozen model behind one small class, and how to load it."""

from __future__ import annotations

from .default import default_base
from .hub import cached_folder, split_hub_id
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
    "cached_folder",
    "compute_dtype",
    "default_base",
    "load_base",
    "open_pipeline",
    "peek_family",
    "split_hub_id",
]
