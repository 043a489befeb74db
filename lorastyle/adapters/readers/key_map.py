"""The key map that ComfyUI and Forge share: the names of each layer, and the endings that are looked for."""

from __future__ import annotations

import re
from collections.abc import Set

from ..contents import FileModule
from .reader import View
from .spelled import is_attention, is_lora, is_stability, prefix

ENDINGS = frozenset(
    {
        ".lora_down.weight",
        "_lora.down.weight",
        ".lora_A.weight",
        ".lora.down.weight",
        ".lora_linear_layer.down.weight",
    }
)
_TEXT = re.compile(
    r"text_encoder(?:_2)?\.text_model\.encoder\.layers\.\d+\.(?:mlp\.fc[12]|self_attn\.\w+_proj)"
)
_FLAT_TEXT = re.compile(
    r"lora_te[12]?_text_model_encoder_layers_\d+_(?:mlp_fc[12]|self_attn_\w+_proj)|lora_te[12]_text_projection"
)


def unmapped(view: View, module: FileModule, *, generic_text: bool) -> str | None:
    """Why a module's name is not in the map.

    Args:
        generic_text: whether `text_encoders.clip_l...` is.
    """
    flat, name = prefix(module), module.spelled
    if flat == "oft_unet_" or (flat == "lycoris_" and is_stability(module)):
        return f"names that begin with {flat} are not looked up"
    if flat:
        found = module.component == "unet" or _FLAT_TEXT.fullmatch(name)
        return None if found else "this layer of a text encoder is not looked up"
    if name.startswith("base_model."):
        return "peft's names are not looked up for Stable Diffusion"
    if name.startswith("text_encoders."):
        return None if generic_text else "names that begin with text_encoders are not looked up"
    if name.startswith("diffusion_model."):
        return None if is_stability(module) else "diffusion_model is looked up with the original names alone"
    if module.component != "unet":
        return None if _TEXT.fullmatch(name) else "this text encoder's names are not looked up"
    if is_attention(module) and ".processor." not in name:
        return "attention is looked up with .processor. in its name, as diffusers wrote it before 0.20"
    return None


def unread(module: FileModule, endings: Set[str]) -> str | None:
    """Why a LoRA's tensors are not found under a name that is."""
    if not is_lora(module):
        return None
    end = module.end("down")
    if end not in endings:
        return f"tensors that end with {end} are not looked up"
    if "mid" in module.entries and end != ".lora_down.weight":
        return f"a Tucker core beside {end} is not looked up"
    return None
