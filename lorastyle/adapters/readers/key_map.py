"""The key map that ComfyUI and Forge share: the names of each layer, and the endings that are looked for."""

from __future__ import annotations

import re
from collections.abc import Set

from ..contents import FileModule
from .reader import View
from .spelled import has_known_body, is_attention, is_lora, is_stability, prefix

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
_DOTTED = re.compile(
    r"(?:unet\.)?(?:(?:down_blocks|up_blocks)\.\d+\.[a-z]+\.\d+\..+|mid_block\.[a-z]+\.\d+\..+"
    r"|(?:time|add)_embedding\.linear_[12]|conv_(?:in|out|norm_out))"
)
_GENERIC_TEXT = re.compile(r"text_encoders\.clip_[lgh]\.transformer\.(?:text_model\.|text_projection$)")
_UNKNOWN = "names that begin like this are not looked up"
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
        if module.component == "unet":
            return None if has_known_body(module) else _UNKNOWN
        return None if _FLAT_TEXT.fullmatch(name) else "this layer of a text encoder is not looked up"
    if name.startswith("base_model."):
        return "peft's names are not looked up for Stable Diffusion"
    if name.startswith("text_encoders."):
        found = generic_text and _GENERIC_TEXT.match(name)
        return None if found else "names like this that begin with text_encoders are not looked up"
    if name.startswith("diffusion_model."):
        return None if is_stability(module) else "diffusion_model is looked up with the original names alone"
    if module.component != "unet":
        return None if _TEXT.fullmatch(name) else "this text encoder's names are not looked up"
    if not _DOTTED.fullmatch(name):
        return _UNKNOWN
    if is_attention(module) and ".processor." not in name:
        return "attention is looked up with .processor. in its name, as diffusers wrote it before 0.20"
    return None


def fails(module: FileModule) -> str | None:
    """Why computing the update raises, which ComfyUI logs and Forge does not catch."""
    if "lokr_t2" in module.entries:
        return "applying LoKr with a Tucker core fails"
    kernel = module.entries["b1"].shape[2:] if "b1" in module.entries else ()
    if any(size != 1 for size in kernel):  # in b2 by now
        return "applying the first version of GLoRA to a convolution fails"
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
