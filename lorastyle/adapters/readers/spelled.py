"""What the readers' rules ask of a module's name, however it is spelled."""

from __future__ import annotations

import re
from collections.abc import Container, Set

from ..contents import FileModule

_FLAT = ("lora_unet_", "oft_unet_", "lycoris_", "lora_te_", "lora_te1_", "lora_te2_")
_ATTENTION = re.compile(r"attn[12]_(?:processor_)?to_(?:q|k|v|out(?:_0)?)$")
_FUSED = re.compile(r"(.*_self_attn_)(?:q|k|v|out)_proj$")
_STABILITY = ("input_blocks_", "middle_block_", "output_blocks_", "time_embed_", "label_emb_", "out_")
_EMBEDDINGS = ("time_embed", "add_embedding", "label_emb")
_CONVOLUTION = re.compile(
    r"(?:conv[12]?|conv_in|conv_out|conv_shortcut|in_layers_2|out_layers_3|skip_connection|_op"
    r"|input_blocks_0_0|out_2)$"
)
_PROJECTION = re.compile(r"_(?:proj_in|proj_out)$")
_TEXT_LINEAR = re.compile(r"text_model_encoder_layers_\d+_(?:mlp_fc[12]|self_attn_(?:q|k|v|out)_proj)")
_TEXT_BODY = re.compile(r"text_model_(?:encoder_layers_\d+_|final_layer_norm$|embeddings_)|text_projection$")
_UNET_BODY = re.compile(
    r"(?:down_blocks|up_blocks|input_blocks|output_blocks|middle_block)_\d|mid_block_|(?:time|add)_embedding_"
    r"|time_embed_\d|label_emb_\d|conv_(?:in|out|norm_out)$|out_\d$"
)
_FACTORED = ("down", "hada_w1_a", "lokr_w1", "lokr_w1_a", "lokr_w2", "lokr_w2_a", "weight")
_ENDS = ("conv_in", "conv_out", "conv_norm_out", "input_blocks_0_0", "out_0", "out_2")
BIASES = frozenset({"up_bias", "bias", "bias_values", "diff_b"})
"""Roles of what is added to a layer beside its factors. `bias` and `bias_values` may be its weight's."""
LORA = frozenset({"down", "up", "alpha"})
"""Roles of the tensors of plain LoRA."""


def prefix(module: FileModule) -> str:
    """`lora_unet_` and the like; empty for names with dots."""
    if "." in module.spelled:
        return ""
    return next((start for start in _FLAT if module.spelled.startswith(start)), "")


def inside(module: FileModule) -> str:
    """The module's own name, flattened: `lora_unet_mid_block_1` and `unet.mid_block.1` are `mid_block_1`."""
    name = module.spelled
    if flat := prefix(module):
        return name[len(flat) :]
    for start in ("base_model.model.", "diffusion_model.", f"{module.component}."):
        name = name.removeprefix(start)
    return name.replace(".", "_")


def is_stability(module: FileModule) -> bool:
    """Whether a UNet's module has the name that Stability's own code gives it."""
    return module.component == "unet" and inside(module).startswith(_STABILITY)


def is_attention(module: FileModule) -> bool:
    """A UNet's queries, keys, values and what comes out of them."""
    return module.component == "unet" and _ATTENTION.search(inside(module)) is not None


def is_embedding(module: FileModule) -> bool:
    """A UNet's layers for the step, the size and the like."""
    return module.component == "unet" and inside(module).startswith(_EMBEDDINGS)


def is_end(module: FileModule) -> bool:
    """A UNet's first and last convolution."""
    return module.component == "unet" and inside(module) in _ENDS


def is_convolution(module: FileModule, family: str) -> bool:
    """Whether the layer is a convolution in the UNet of this family.

    Only SD 1.x projects into and out of its transformers with 1x1 convolutions.
    """
    if module.component != "unet":
        return False
    name = inside(module)
    projection = family == "sd1" and _PROJECTION.search(name) is not None
    return projection or _CONVOLUTION.search(name) is not None


def has_known_body(module: FileModule) -> bool:
    """Whether what follows the first prefix is a module's name, and not one more prefix."""
    body = _UNET_BODY if module.component == "unet" else _TEXT_BODY
    return body.match(inside(module)) is not None


def is_text_linear(module: FileModule) -> bool:
    """A linear layer in a block of a text encoder, named as transformers names it up to version 4."""
    return _TEXT_LINEAR.fullmatch(inside(module)) is not None


def ends_like(module: FileModule, *pairs: tuple[str, str]) -> bool:
    """Whether a LoRA's tensors end with one of these (down, up)."""
    return is_lora(module) and (module.end("down"), module.end("up")) in pairs


def beside_factors(module: FileModule, read: Set[str] = frozenset()) -> str | None:
    """What is lost of a module by readers that take the factors and leave what stands beside them.

    Args:
        read: roles that they read all the same.
    """
    roles = module.entries.keys() - read
    factors = any(role in module.entries for role in _FACTORED)
    if roles & (BIASES - {"diff_b"}) or ("diff_b" in roles and (factors or "diff" not in roles)):
        return "the bias is not read"
    if "diff" in roles and factors:
        return "the full difference beside the factors is not read"
    return None


def fused(module: FileModule, names: Container[str]) -> bool | None:
    """Of a text encoder's attention whose q, k and v are one layer in the reader: are all four there?

    None for what is no such layer.
    """
    if module.component == "unet" or (found := _FUSED.match(module.spelled)) is None:
        return None
    return all(f"{found.group(1)}{part}_proj" in names for part in ("q", "k", "v", "out"))


def is_lora(module: FileModule) -> bool:
    """Whether it has both factors of a LoRA."""
    return "down" in module.entries and "up" in module.entries


def of_alpha(module: FileModule, *, scale: bool = False) -> float | None:
    """alpha / rank, and 1 without an alpha: what most readers do. None where there is no rank.

    Args:
        scale: whether a `.scale` tensor replaces it.
    """
    if scale and module.scale is not None:
        return module.scale
    if module.rank is None:
        return None
    return 1.0 if module.alpha is None else module.alpha / module.rank


def on_output_rows(module: FileModule) -> bool:
    """Whether a DoRA's magnitudes are one for each output, as LyCORIS writes them by now."""
    entry = module.entries.get("magnitude")
    return entry is not None and bool(entry.shape) and entry.shape[0] > 1


def left_out(module: FileModule, of_outputs: str) -> str | None:
    """What ComfyUI and what came of it leave out of a module that they read; None if nothing.

    Args:
        of_outputs: what becomes of DoRA magnitudes of outputs, which differs.
    """
    roles = module.entries.keys()
    if on_output_rows(module):
        return of_outputs
    if is_lora(module) and "row_magnitude" in roles:
        return "DoRA magnitudes are read as dora_scale only"
    if roles & {"up_bias", "bias", "bias_values"}:
        return "the bias is not read"
    if "diff" in roles and any(role in roles for role in _FACTORED):
        return "the full difference replaces the factors beside it"
    return None
