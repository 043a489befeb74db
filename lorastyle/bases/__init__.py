"""The frozen model behind one small class, and how to load it."""

from __future__ import annotations

from .default import default_base
from .likeness import Likeness
from .load import EMBEDDED, load_base
from .peek import Peeked, peek_base, peek_family
from .pipelines import open_pipeline
from .precision import compute_dtype
from .prompt_embeds import PromptEmbeds
from .stable_diffusion import StableDiffusion
from .stable_diffusion_xl import StableDiffusionXL

__all__ = [
    "EMBEDDED",
    "Likeness",
    "Peeked",
    "PromptEmbeds",
    "StableDiffusion",
    "StableDiffusionXL",
    "compute_dtype",
    "default_base",
    "load_base",
    "open_pipeline",
    "peek_base",
    "peek_family",
]
