"""How a tensor in a file says which module it belongs to, and what it is to it.

To add a program's names: its prefixes, and its names of modules, in `naming.py`; its ends in `suffixes.py`.
"""

from __future__ import annotations

from functools import lru_cache

from .naming import COMPONENTS, Format, TensorName, owner
from .suffixes import UNSUPPORTED, split_suffix

_COMFY = ("diffusion_model.", "model.diffusion_model.", "text_encoders.", "clip_l.", "clip_g.", "clip_h.")
FORMATS: tuple[Format, ...] = (
    Format("kohya", lambda module: "." not in module),
    Format("peft", lambda module: module.startswith("base_model.model.")),
    Format("comfy", lambda module: module.startswith(_COMFY)),
    Format("diffusers", lambda module: True),
)
"""In the order in which they are asked."""

__all__ = ["COMPONENTS", "FORMATS", "UNSUPPORTED", "Format", "TensorName", "parse_name"]


@lru_cache(maxsize=8192)  # a load asks for each key several times
def parse_name(key: str) -> tuple[Format, TensorName] | None:
    """Take a tensor's key apart; None if it is no adapter tensor."""
    if (split := split_suffix(key)) is None:
        return None
    module, role, algorithm = split
    if (component := owner(module)) is None:
        return None
    fmt = next(fmt for fmt in FORMATS if fmt.has(module))
    return fmt, TensorName(component, module, role, algorithm)
