"""InvokeAI: names are cut at the first dot, and looked up in diffusers' model; one odd module stops all."""

from __future__ import annotations

from ..contents import FileModule
from .reader import Reader, View
from .spelled import inside, is_lora, is_stability, of_alpha, on_output_rows, prefix

_ACCEPTED = ({"down", "up"}, {"hada_w1_a"}, {"lokr_w1"}, {"lokr_w1_a"}, {"diff"}, {"on_input"}, {"w_norm"})
_TEXT = {"sd1": ("lora_te_",), "sd2": ("lora_te_",), "sdxl": ("lora_te1_", "lora_te2_")}
_WIDTH = ("attn2_to_k", "attn2_to_v", "self_attn_k_proj", "self_attn_v_proj", "self_attn_q_proj")


def _refuses(view: View) -> str | None:
    if any("." in module.spelled for module in view.modules):
        return "names with dots are cut at the first dot, which leaves no kind of layer that it knows"
    for module in view.modules:
        roles = module.entries.keys()
        if "magnitude" in roles and not is_lora(module):
            return f"DoRA is read around LoRA alone: {module.spelled}"
        if not any(accepted <= roles for accepted in _ACCEPTED):
            return f"one module of a kind that it does not know stops the file: {module.spelled}"
    if view.family == "sdxl":
        if strange := next(
            (m for m in view.modules if prefix(m) not in ("lora_unet_", *_TEXT["sdxl"])), None
        ):
            return f"SDXL's modules must begin with lora_unet_, lora_te1_ or lora_te2_: {strange.spelled}"
        unet = [is_stability(module) for module in view.modules if module.component == "unet"]
        if any(unet) and not all(unet):
            return "the names in SDXL's UNet must all be the original ones, or all those of diffusers"
    elif not any(inside(module).endswith(_WIDTH) for module in view.modules):
        return "the base is told by cross-attention or a text encoder, and the file has neither"
    return None


def _loses(view: View, module: FileModule) -> str | None:
    flat = prefix(module)
    if module.component != "unet" and flat not in _TEXT[view.family]:
        return f"this text encoder is looked up as {' and '.join(_TEXT[view.family])}"
    if module.component == "unet" and flat != "lora_unet_":
        return f"names that begin with {flat} are not looked up"
    if view.family != "sdxl" and is_stability(module):
        return "the original names are looked up for SDXL alone"
    return None


def _changes(view: View, module: FileModule) -> str | None:
    if on_output_rows(module):
        return "DoRA magnitudes of outputs are taken for magnitudes of inputs"
    return "the bias is not read" if "bias" in module.entries else None


READER = Reader(
    "InvokeAI",
    "InvokeAI 6, backend/patches/lora_conversions and backend/patches/layers",
    _loses,
    lambda view, module: of_alpha(module),
    _refuses,
    _changes,
)
