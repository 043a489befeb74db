"""Adapters on a live torch model: many residents, one gate vector per layer.

with lorastyle.attach(pipe) as bank:
    bank.add(load_adapter("sticker.safetensors", ...), scale=0.8)
    pipe("a cat, sticker style")
"""

from __future__ import annotations

from .attach import attach
from .attention_maps import AttentionMaps
from .bank import AdapterBank
from .layers import GatedConv2d, GatedLayer, GatedLinear
from .targets import PRESETS, adaptable_modules, match_paths, select_targets

__all__ = [
    "PRESETS",
    "AdapterBank",
    "AttentionMaps",
    "GatedConv2d",
    "GatedLayer",
    "GatedLinear",
    "adaptable_modules",
    "attach",
    "match_paths",
    "select_targets",
]
