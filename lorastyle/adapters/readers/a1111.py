"""A1111: names are cut at the first dot, and looked up among the modules of the original model."""

from __future__ import annotations

from ..contents import FileModule
from .reader import Reader, View
from .spelled import fused, inside, is_lora, is_stability, of_alpha, on_output_rows, prefix

_ACCEPTED = (
    {"down", "up"},
    {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"},
    {"weight", "on_input"},
    {"lokr_w1"},
    {"lokr_w1_a"},
    {"diff"},
    {"w_norm", "b_norm"},
    {"a1", "a2", "b1", "b2"},
    {"oft_blocks"},
    {"oft_diag"},
)


def _loses(view: View, module: FileModule) -> str | None:
    flat, name = prefix(module), inside(module)
    if not flat:
        return "names with dots are cut at the first dot, and match nothing"
    if flat == "lycoris_" or (flat == "oft_unet_" and not is_stability(module)):
        return f"names that begin with {flat} match nothing"
    if flat == "lora_te1_" and view.family == "sd2":
        return "lora_te1_ is looked up for SD 1.x and XL alone"
    if name.startswith("add_embedding") or name == "text_projection":
        return "this layer is not looked up under that name"
    if view.family == "sdxl" and name.startswith("up_blocks_0_upsamplers"):
        return "diffusers' name of SDXL's first upsampler leads to another layer"
    openclip = module.component == "text_encoder_2" or (view.family == "sd2" and module.component != "unet")
    if openclip and fused(module, view.names) is False:
        return "this encoder's attention is one layer, changed only where q, k, v and out are all there"
    return None


def _refuses(view: View) -> str | None:
    for module in view.modules:
        if _loses(view, module) is None and not any(roles <= module.entries.keys() for roles in _ACCEPTED):
            return f"one module of a kind that it does not know stops the file: {module.spelled}"
    return None


def _changes(view: View, module: FileModule) -> str | None:
    if on_output_rows(module):
        return "DoRA magnitudes of outputs are taken for magnitudes of inputs"
    if is_lora(module) and "row_magnitude" in module.entries:
        return "DoRA magnitudes are read as dora_scale only"
    if module.entries.keys() & {"up_bias", "bias_values"}:
        return "the bias is not read"
    return None


READER = Reader(
    "A1111",
    "stable-diffusion-webui 1.10, extensions-builtin/Lora/networks.py and network*.py",
    _loses,
    lambda view, module: of_alpha(module, scale=True),
    _refuses,
    _changes,
    words=None,
)
