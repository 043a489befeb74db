"""A1111: names are cut at the first dot, and looked up among the modules of the original model."""

from __future__ import annotations

import re

from ..contents import FileModule
from .reader import Reader, View
from .spelled import (
    LORA,
    beside_factors,
    ends_like,
    fused,
    has_known_body,
    inside,
    is_convolution,
    is_lora,
    is_stability,
    of_alpha,
    on_output_rows,
    prefix,
)

_SPELLED = (".lora_down.weight", ".lora_up.weight")
_PEFT = (".lora_A.weight", ".lora_B.weight")
_ACCEPTED = (
    {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"},
    {"weight", "on_input"},
    {"lokr_w1", "lokr_w2"},
    {"lokr_w1", "lokr_w2_a", "lokr_w2_b"},
    {"lokr_w1_a", "lokr_w1_b", "lokr_w2"},
    {"lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"},
    {"diff"},
    {"w_norm", "b_norm"},
    {"a1", "a2", "b1", "b2", "alpha"},
    {"oft_blocks"},
    {"oft_diag"},
)
_TEXT = {"sd1": ("lora_te_", "lora_te1_"), "sd2": ("lora_te_",), "sdxl": ("lora_te1_", "lora_te2_")}
_LAYER = re.compile(
    r"text_model_encoder_layers_\d+_(?:mlp_fc[12]|self_attn_(?:q|k|v|out)_proj|(layer_norm[12]))"
)


def _loses(view: View, module: FileModule) -> str | None:
    flat, name = prefix(module), inside(module)
    if not flat:
        return (
            "names with dots are cut at the first dot, and match nothing"
            if "." in module.spelled
            else _UNKNOWN
        )
    if module.component == "unet" and not has_known_body(module):
        return _UNKNOWN
    if flat == "lycoris_" or (flat == "oft_unet_" and not is_stability(module)):
        return f"names that begin with {flat} match nothing"
    if module.component != "unet" and (why := _loses_text(view, module)):
        return why
    if name.startswith("add_embedding") or name == "conv_norm_out":
        return _UNKNOWN_LAYER
    if view.family == "sdxl" and name.startswith("up_blocks_0_upsamplers"):
        return "diffusers' name of SDXL's first upsampler leads to another layer"
    return _fails(view, module)


_UNKNOWN = "names that begin like this match nothing"
_UNKNOWN_LAYER = "it does not know this layer by that name"


def _openclip(view: View, module: FileModule) -> bool:
    """Whether the layer is in a text encoder of OpenCLIP's code: SD 2's, and SDXL's second."""
    return module.component != "unet" and (view.family == "sd2" or prefix(module) == "lora_te2_")


def _loses_text(view: View, module: FileModule) -> str | None:
    flat, name = prefix(module), inside(module)
    if flat not in _TEXT[view.family]:
        return f"for this base only text encoders named {' or '.join(_TEXT[view.family])} are looked up"
    layer = _LAYER.fullmatch(name)
    if layer is None:  # names of the first text encoder are also tried as they are
        known = flat == "lora_te1_" and name == "text_model_final_layer_norm"
        return None if known else _UNKNOWN_LAYER
    if not _openclip(view, module):
        return None
    if layer.group(1):
        return "its OpenCLIP encoder calls the layer norms by other names, so they match nothing"
    if fused(module, view.by_name) is False:
        return "its OpenCLIP encoder changes attention only if q, k, v and out are all in the file"
    return _fails_together(view, module)


def _fails_together(view: View, module: FileModule) -> str | None:
    """Why a part of OpenCLIP's attention is not applied: all four are computed before any of them is."""
    start, _, end = module.spelled.rpartition("_self_attn_")
    if not start or end not in _PARTS:
        return None
    own = (view.by_name[f"{start}_self_attn_{part}"] for part in _PARTS)
    return next((why for part in own if (why := _fails(view, part))), None)


_PARTS = ("q_proj", "k_proj", "v_proj", "out_proj")


def _fails(view: View, module: FileModule) -> str | None:
    """Why computing the update raises, which A1111 counts and passes over."""
    if "weight" in module.entries and is_convolution(module, view.family):
        if len(module.entries["weight"].shape) != 4 or not module.on_input:
            return "applying IA3 to a convolution fails"
    if "a1" in module.entries and not _old_glora(module):
        return "GLoRA is applied in its first version only, which fails on this layer"
    if "bias" in module.entries and len(module.entries["bias"].shape) < 2:
        return "applying a bias that is not the size of the weight fails"
    return None


def _old_glora(module: FileModule) -> bool:
    """Whether a GLoRA of a linear layer has its factors the way round that LyCORIS wrote before 2.0."""
    shapes = [module.entries[role].shape for role in ("a1", "a2", "b1", "b2") if role in module.entries]
    if len(shapes) != 4 or any(len(shape) != 2 for shape in shapes):
        return False
    a1, a2, b1, b2 = shapes
    return a1[1] >= a1[0] == a2[1] == b1[0] == b2[1]


def _refuses(view: View) -> str | None:
    for module in view.modules:
        fails = _fails(view, module) is not None  # only once the file is loaded
        if (fails or _loses(view, module) is None) and not _accepted(module):
            return f"it stops at a kind of module that it does not know: {module.spelled}"
    return None


def _accepted(module: FileModule) -> bool:
    return ends_like(module, _SPELLED, _PEFT) or any(roles <= module.entries.keys() for roles in _ACCEPTED)


def _changes(view: View, module: FileModule) -> str | None:
    roles = module.entries.keys()
    if ends_like(module, _PEFT) and roles - LORA - {"scale"}:
        return "beside lora_A and lora_B nothing else is read"
    if on_output_rows(module):
        return "DoRA magnitudes of outputs are taken for magnitudes of inputs"
    if is_lora(module) and "row_magnitude" in module.entries:
        return "DoRA magnitudes are read as dora_scale only"
    if "a1" in roles and module.alpha not in (None, float(module.entries["a1"].shape[0])):
        return "the alpha of GLoRA is not read"
    if "diff_b" in roles and fused(module, view.by_name) and _openclip(view, module):
        if not module.spelled.endswith("_out_proj"):
            return "its OpenCLIP encoder has one layer for q, k and v, and never changes the bias of it"
    return beside_factors(module, read={"bias"})


def _factor(view: View, module: FileModule) -> float | None:
    return 1.0 if ends_like(module, _PEFT) else of_alpha(module, scale=True)  # lora_A loses its alpha


READER = Reader(
    "A1111",
    "stable-diffusion-webui 1.10, extensions-builtin/Lora/networks.py and network*.py",
    _loses,
    _factor,
    _refuses,
    _changes,
    words=None,
)
