"""What a module's name in a file consists of: a prefix that says which component it is of, and the module's
own name in one of its spellings. Any prefix goes with any spelling. Nothing in the formats needs torch.

Names are compared flattened, with `_` for every dot, so that kohya's and dotted names are the same ones. How
a prefix or a spelling came about says who wrote it: kohya's `lora_unet_`, `lora_te1_`; SimpleTuner's
`lycoris_`; diffusers' `unet.`, `text_encoder_2.`; ComfyUI's `diffusion_model.`,
`text_encoders.clip_l.transformer.`; peft's `base_model.model.`; those of whole checkpoints,
`model.diffusion_model.`, `cond_stage_model.transformer.`, `conditioner.embedders.1.model.`. OneTrainer has
written `unet.` before Stability's names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from .sgm import sgm_names

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
_UNET, _TEXT, _TEXT_2 = COMPONENTS

# flattened: the components that it may mean
_PREFIXES: Mapping[str, tuple[str, ...]] = {
    **{
        prefix: (_UNET,)
        for prefix in (
            "unet_", "lora_unet_", "oft_unet_", "lycoris_unet_", "diffusion_model_", "model_diffusion_model_",
        )
    },
    **{
        prefix: (_TEXT,)
        for prefix in (
            "text_encoder_", "text_encoder_1_", "te_", "te1_", "te_1_", "clip_l_", "clip_h_",
            "clip_l_transformer_", "clip_h_transformer_", "text_encoders_clip_l_", "text_encoders_clip_h_",
            "text_encoders_clip_l_transformer_", "text_encoders_clip_h_transformer_", "lora_te_", "lora_te1_",
            "lora_te_1_", "lora_text_encoder_", "lora_text_encoder_1_", "oft_te_", "oft_te1_", "lycoris_te_",
            "lycoris_te1_", "lycoris_text_encoder_", "cond_stage_model_transformer_",
            "cond_stage_model_model_", "conditioner_embedders_0_transformer_",
        )
    },
    **{
        prefix: (_TEXT_2,)
        for prefix in (
            "text_encoder_2_", "te2_", "te_2_", "clip_g_", "clip_g_transformer_", "text_encoders_clip_g_",
            "text_encoders_clip_g_transformer_", "lora_te2_", "lora_te_2_", "lora_text_encoder_2_",
            "oft_te2_", "lycoris_te2_", "lycoris_text_encoder_2_", "conditioner_embedders_1_model_",
        )
    },
    # these do not say which component it is
    "base_model_model_": COMPONENTS,
    "lycoris_": COMPONENTS,
}  # fmt: skip
_LONGEST_FIRST = tuple(sorted(_PREFIXES, key=len, reverse=True))
_MOST_PREFIXES = 4  # one behind the other
_STARTS = tuple({prefix.partition("_")[0] for prefix in _PREFIXES})
_UNET_BODY = re.compile(
    r"(?:down_blocks|up_blocks|input_blocks|output_blocks)_\d|mid_block_|middle_block_\d|time_embed_[02]$|"
    r"(?:time|add)_embedding_|label_emb_0|conv_(?:in|out|norm_out)$|out_[02]$"
)
_TEXT_BODY = re.compile(
    r"(?:(?:transformer_)?text_model_)?(?:encoder_layers_\d|final_layer_norm$)|(?:transformer_)?resblocks_\d|"
    r"text_projection$"
)
_ORIGINAL = re.compile(
    r"(?:input_blocks|output_blocks|middle_block)_\d|time_embed_[02]$|label_emb_0|out_[02]$|"
    r"(?:transformer_)?resblocks_\d"
)
_OLD = {"to_out.0": "to_out"}  # in the attention processors of diffusers before 0.20
_OLD_TEXT = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
_OPEN_CLIP = {
    "self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "layer_norm1": "ln_1", "layer_norm2": "ln_2",
}  # fmt: skip


@dataclass(frozen=True)
class TensorName:
    """One tensor's key, taken apart.

    `module` is the module as the file spells it, component prefix included. `role` says what the tensor is
    to the module ("down", "up", "alpha", "lokr_w1", ...). `algorithm` is the kind of update that has such
    tensors; empty for plain LoRA.
    """

    component: str
    module: str
    role: str
    algorithm: str = ""


@dataclass(frozen=True)
class Format:
    """A naming family.

    Args:
        name: its word in reports.
        has: whether a spelled module of an adapter is of this family.
    """

    name: str
    has: Callable[[str], bool]


@lru_cache(maxsize=8192)
def split_prefix(module: str) -> tuple[tuple[str, ...], str]:
    """The components that a spelled module may be of, and its own name without prefixes, dots as they were.

    Prefixes may stand one behind the other (`base_model.model.unet.`). Without one all components are meant.
    """
    components, flat, start = COMPONENTS, module.replace(".", "_"), 0
    for _ in range(_MOST_PREFIXES):
        if not flat.startswith(_STARTS, start):
            break
        prefix = next((p for p in _LONGEST_FIRST if flat.startswith(p, start)), None)
        if prefix is None or not (both := tuple(c for c in components if c in _PREFIXES[prefix])):
            break
        components, start = both, start + len(prefix)
    return components, module[start:]


def owner(module: str) -> str | None:
    """The component that a spelled module belongs to; None for a name that is not of an adapter."""
    components, body = split_prefix(module)
    if len(components) == 1:
        return components[0] if body else None
    flat = body.replace(".", "_")
    if _TEXT_BODY.match(flat):
        return _TEXT
    if body != module or _UNET_BODY.match(flat):
        return _UNET if body else None
    return None


def is_unet_body(body: str) -> bool:
    """Whether a name without its prefix is that of a Stable Diffusion UNet's module, in any spelling."""
    return _UNET_BODY.match(body.replace(".", "_")) is not None


def not_diffusers(body: str) -> bool:
    """Whether a name without its prefix is Stability's or OpenCLIP's, and not that of diffusers' module."""
    return _ORIGINAL.match(body.replace(".", "_")) is not None


def flat_names(component: str, path: str) -> Iterator[str]:
    """Every name, flattened and without prefix, that a file may have for the live module `path`.

    Names in files are looked up among these, because turning `to_out_0` back into dots by rule is ambiguous.
    """
    names = _unet_names(path) if component == _UNET else _text_names(path)
    yield from dict.fromkeys(name.replace(".", "_") for name in names)


def _unet_names(path: str) -> Iterator[str]:
    for name in (path, *sgm_names(path)):
        yield name
        for end in ("to_q", "to_k", "to_v", "to_out.0"):
            if name.endswith(f".{end}"):
                yield f"{name.removesuffix(end)}processor.{_OLD.get(end, end)}"


def _text_names(path: str) -> Iterator[str]:
    for name in (*text_paths(path), f"transformer.{with_text_model(path)}"):
        yield name
        parent, _, end = name.rpartition(".")
        if end in _OLD_TEXT:
            yield f"{parent}.{_OLD_TEXT[end]}"
    bare = path.removeprefix("text_model.")
    if found := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", bare):
        if found[2] in _OPEN_CLIP:
            name = f"resblocks.{found[1]}.{_OPEN_CLIP[found[2]]}"
            yield from (name, f"transformer.{name}")
    elif bare == "final_layer_norm":
        yield "ln_final"


def with_text_model(path: str) -> str:
    """A CLIP text encoder's module path as it was before transformers 5 dropped the `text_model.` prefix."""
    inner = ("encoder.", "embeddings.", "final_layer_norm")
    return f"text_model.{path}" if path.startswith(inner) else path


def text_paths(path: str) -> tuple[str, ...]:
    """A text encoder's module path with and without that prefix."""
    full = with_text_model(path)
    return tuple(dict.fromkeys((full, full.removeprefix("text_model."))))
