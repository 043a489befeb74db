"""The frozen model behind one small class, and how to load it."""

from __future__ import annotations

from .default import default_base
from .likeness import Likeness
from .load import EMBEDDED, load_base
from .memory import AUTO, FOR_DRAWING, FOR_TRAINING, MODES, MemoryMode
from .needs import (
    Choice,
    activations,
    autoencoder_bytes,
    choose_for_drawing,
    explained,
    fits,
    free_memory,
    gigabytes,
    listed,
    rounded_modes,
    weight_bytes,
)
from .peek import peek_family
from .pipelines import open_pipeline
from .placement import Placement
from .precision import compute_dtype
from .prompt_embeds import PromptEmbeds
from .stable_diffusion import StableDiffusion
from .stable_diffusion_xl import StableDiffusionXL

__all__ = [
    "AUTO",
    "EMBEDDED",
    "FOR_DRAWING",
    "FOR_TRAINING",
    "MODES",
    "Choice",
    "Likeness",
    "MemoryMode",
    "Placement",
    "PromptEmbeds",
    "StableDiffusion",
    "StableDiffusionXL",
    "activations",
    "autoencoder_bytes",
    "choose_for_drawing",
    "compute_dtype",
    "default_base",
    "explained",
    "fits",
    "free_memory",
    "gigabytes",
    "listed",
    "load_base",
    "open_pipeline",
    "peek_family",
    "rounded_modes",
    "weight_bytes",
]
