"""InvokeAI: names are cut at the first dot, and looked up in diffusers' model; one odd module stops all."""

from __future__ import annotations

import re

from ..contents import FileModule
from ..families import family_title
from .reader import Reader, View
from .spelled import (
    beside_factors,
    ends_like,
    has_known_body,
    is_convolution,
    is_lora,
    is_stability,
    of_alpha,
    on_output_rows,
    prefix,
)

_ACCEPTED = ({"hada_w1_a"}, {"lokr_w1"}, {"lokr_w1_a"}, {"diff"}, {"on_input"}, {"w_norm"})
_TEXT = {"sd1": ("lora_te_",), "sd2": ("lora_te_",), "sdxl": ("lora_te1_", "lora_te2_")}
_DEEP = re.compile(
    r"lora_unet_(?:(?:down|up)_blocks_\d+_attentions_\d+|mid_block_attentions_\d+"
    r"|(?:in|out)put_blocks_\d+_\d+|middle_block_\d+)_transformer_blocks_(\d+)_.*"
)
_WIDTHS = {768: "sd1", 1024: "sd2", 1280: "sdxl", 2048: "sdxl"}


def _refuses(view: View) -> str | None:
    if any("." in module.spelled for module in view.modules):
        return "names with dots are cut at the first dot, which leaves no kind of layer that it knows"
    for module in view.modules:
        roles = module.entries.keys()
        if "magnitude" in roles and not is_lora(module):
            return f"DoRA is read around LoRA alone: {module.spelled}"
        lora = ends_like(module, (".lora_down.weight", ".lora_up.weight"))
        if not lora and not any(accepted <= roles for accepted in _ACCEPTED):
            return f"it stops at a kind of module that it does not know: {module.spelled}"
        if _loses(view, module) is None and (why := _fails(view, module)):
            return f"{why}, which stops the image: {module.spelled}"
    if view.family == "sdxl":
        if strange := next(
            (m for m in view.modules if prefix(m) not in ("lora_unet_", *_TEXT["sdxl"])), None
        ):
            return f"SDXL's modules must begin with lora_unet_, lora_te1_ or lora_te2_: {strange.spelled}"
        unet = [is_stability(module) for module in view.modules if module.component == "unet"]
        if any(unet) and not all(unet):
            return "the names in SDXL's UNet must all be the original ones, or all those of diffusers"
    return _refuses_base(view)


def _fails(view: View, module: FileModule) -> str | None:
    """Why computing the update raises."""
    roles = module.entries.keys()
    if "on_input" in roles and is_convolution(module, view.family):
        if len(module.entries["weight"].shape) != 4 or not module.on_input:
            return "applying IA3 to a convolution fails"
    if "magnitude" in roles and "mid" in roles:
        return "applying DoRA with a Tucker core fails"
    if "bias_values" in roles:
        return "a sparse difference beside the factors is taken for a bias, and applying it fails"
    return None


def _refuses_base(view: View) -> str | None:
    """Which base a file is for is told by a width, of cross-attention or else of the text encoders."""
    width = _width(view)
    # A width that no Stable Diffusion has is that of a base made smaller, and judged as if it were larger.
    found = None if width is None else _WIDTHS.get(width, view.family)
    if found is None and any((deep := _DEEP.match(key)) and int(deep.group(1)) > 1 for key in view.keys):
        found = "sdxl"
    if found is None:
        return "it tells the base by cross-attention or a text encoder's attention, and cannot here"
    return None if found == view.family else f"it takes the file for one made for {family_title(found)}"


def _width(view: View) -> int | None:
    """That of the first module in the file's order that has one (`lora_token_vector_length`)."""
    modules = {key: module for module in view.modules for key in module.keys.values()}
    first = second = None
    for key in view.keys:
        if (module := modules.get(key)) is None:
            continue
        flat = prefix(module)
        if flat == "lora_unet_" and module.spelled.endswith(("_attn2_to_k", "_attn2_to_v")):
            found = _own_width(module, key)
        elif flat == "lora_unet_" and "time_emb_proj.lora_down" in key:
            found = _own_width(module, key)
        elif flat in ("lora_te_", "lora_te1_", "lora_te2_") and "_self_attn_" in key:
            found = _own_width(module, key)
            if flat != "lora_te_":
                first, second = (found, second) if flat == "lora_te1_" else (first, found)
                found = None if first is None or second is None else first + second
        else:
            continue
        if found is not None:
            return found
    return None


def _own_width(module: FileModule, key: str) -> int | None:
    """The number of inputs that one tensor shows; a LoKr's only where neither of its halves is factored."""
    role = next(role for role, own in module.keys.items() if own == key)
    shape = module.entries[role].shape
    if role == "weight" and prefix(module) != "lora_unet_":
        return shape[0] if shape else None
    if role.startswith("lokr_"):
        halves = [module.entries[half].shape for half in ("lokr_w1", "lokr_w2") if half in module.entries]
        wide = len(halves) == 2 and all(len(half) > 1 for half in halves)
        return halves[0][1] * halves[1][1] if wide else None
    named = role in ("hada_w1_b", "hada_w2_b", "diff") or module.end(role) == ".lora_down.weight"
    return shape[1] if named and len(shape) > 1 else None


def _loses(view: View, module: FileModule) -> str | None:
    flat = prefix(module)
    if module.component != "unet" and flat not in _TEXT[view.family]:
        return f"this text encoder is looked up as {' and '.join(_TEXT[view.family])}"
    if module.component == "unet" and flat != "lora_unet_":
        return f"names that begin with {flat} are not looked up"
    if not has_known_body(module):
        return "names that begin like this are not looked up"
    if view.family != "sdxl" and is_stability(module):
        return "the original names are looked up for SDXL alone"
    return None


def _changes(view: View, module: FileModule) -> str | None:
    if on_output_rows(module):
        return "DoRA magnitudes of outputs are taken for magnitudes of inputs"
    if "row_magnitude" in module.entries:
        return "DoRA magnitudes are read as dora_scale only"
    return beside_factors(module)


READER = Reader(
    "InvokeAI",
    "InvokeAI of 2026-08, backend/patches/lora_conversions and backend/patches/layers",
    _loses,
    lambda view, module: of_alpha(module),
    _refuses,
    _changes,
)
