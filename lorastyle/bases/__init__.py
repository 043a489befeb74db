"""The frozen model behind one small class, and how to load it."""

from __future__ import annotations

from .likeness import Likeness
from .load import EMBEDDED, default_base, load_base
from .precision import compute_dtype
from .stable_diffusion import StableDiffusion

__all__ = ["EMBEDDED", "Likeness", "StableDiffusion", "compute_dtype", "default_base", "load_base"]
