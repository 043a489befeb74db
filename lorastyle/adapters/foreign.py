"""Adapters of other architectures than Stable Diffusion's UNet, told by the names and sizes in a file.

Many architectures share names, so each is told by what it alone has: layers, the number of its blocks, or its
width. What several have in common is "a diffusion transformer". Sources: the classes of diffusers
(`models/transformers`), ComfyUI's `model_detection.py`, and the makers' own code, which kohya's sd-scripts
and musubi-tuner follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

TRANSFORMER = "dit"
"""The family of a diffusion transformer that cannot be told from others."""
_PREFIX = re.compile(
    r"(?:base_model_model_|lora_transformer_|lora_unet_|lycoris_unet_|lycoris_|oft_unet_|model_(?=diffusion_model)|"
    r"diffusion_model_|unet_|transformer_(?!blocks_)|dit_|net_(?=blocks_))*"
)
# Names that begin so, once their prefix is gone, are none of a UNet's.
_TRANSFORMER = re.compile(
    r"^(?:(?:joint_|single_|text_|visual_)?transformer_blocks_\d|(?:double|single|joint|layerwise)_blocks_\d|"
    r"(?:double|single)_stream_(?:blocks_\d|modulation)|(?:double|single)_layers_\d|blocks_(?:block)?\d|layers_\d|"
    r"(?:noise|context|ref_image)_refiner_\d|context_embedder|x_embedder|time_text_embed|time_guidance_embed|"
    r"distilled_guidance_layer|adaln_single|caption_projection|cap_embedder|txt_in|img_in|patch_embed|(?:txt_)?mode_blocks_|(?:lora_)?te3_|text_encoder_3_|"
    r"condition_embedder|llm_adapter|token_refiner|text_fusion)",
    re.M,
)
_UNET = re.compile(
    r"^(?:(?:down|up)_blocks_\d+_(?:attentions|resnets|downsamplers|upsamplers)_|mid_block_(?:attentions|resnets)_|"
    r"(?:input|output)_blocks_\d+_\d+_|middle_block_\d+_)",
    re.M,
)
_VIDEO = re.compile(
    r"motion_modules|temporal_transformer|temp_attentions|temp_convs|time_stack|transformer_in_"
)
_KOLORS = re.compile(r"^encoder_hid_proj$|self_attention_query_key_value|dense_h_to_4h", re.M)
_KOLORS_TIME_IDS = (
    5632  # what `add_embedding.linear_1` reads: 4096 of the text and 6 x 256; SDXL's reads 2816
)
_LONGEST = 400  # characters of a module's name; what is longer is none, and costs time
_SMALLEST = 512  # a width below is no real model's


@dataclass(frozen=True)
class Names:
    """The modules of a file, however they are spelled.

    Attributes:
        modules: {name in the file: (inputs, outputs) of its factors, 0 where they do not show it}.
    """

    modules: Mapping[str, tuple[int, int]]

    @cached_property
    def text(self) -> str:
        """A line for each, flattened and without prefix."""
        return "\n".join(_bare(name) for name in self.modules)

    @cached_property
    def is_transformer(self) -> bool:
        return _TRANSFORMER.search(self.text) is not None

    @cached_property
    def is_unet(self) -> bool:
        """Whether it has modules of a UNet as Stable Diffusion has one."""
        return _UNET.search(self.text) is not None

    def has(self, *patterns: str) -> bool:
        """Whether a name begins with one of the patterns."""
        return any(re.search(rf"^{pattern}", self.text, re.M) for pattern in patterns)

    def dotted(self, pattern: str) -> bool:
        """Whether the pattern is in a name as the file has it."""
        return any(re.search(pattern, name) for name in self.modules)

    def last(self, stem: str) -> int:
        """The largest number that follows `stem`; -1 where none does."""
        return max((int(n) for n in re.findall(rf"^{stem}_(\d{{1,6}})_", self.text, re.M)), default=-1)

    def inputs(self, pattern: str) -> set[int]:
        """How wide the inputs of the modules are whose names begin with the pattern."""
        return {size for size in self._sizes(pattern, 0) if size >= _SMALLEST}

    def outputs(self, pattern: str) -> set[int]:
        """How wide their outputs are."""
        return {size for size in self._sizes(pattern, 1) if size >= _SMALLEST}

    def _sizes(self, pattern: str, side: int) -> Iterator[int]:
        begins = re.compile(pattern)
        return (sizes[side] for name, sizes in self.modules.items() if begins.match(_bare(name)))


def foreign_family(names: Names) -> str | None:
    """The family that is not Stable Diffusion 1.x, 2.x or XL and whose names these are; None if none is
    shown.
    """
    if names.has(r"lora_prior_(?:unet|te)_", r"(?:down|up)_blocks_\d+_\d+_(?:attention|channelwise)_"):
        return "cascade"
    if _KOLORS.search(names.text) or _KOLORS_TIME_IDS in names.inputs(
        r"add_embedding_linear_1|label_emb_0_0"
    ):
        return "kolors"
    if _VIDEO.search(names.text):
        return "video"
    if not names.is_transformer:
        return None
    return next((family for family in _tell(names)), TRANSFORMER)


def _tell(names: Names) -> Iterator[str]:
    """What shows a transformer's family, the surest first."""
    yield from _by_own_layers(names)
    if names.has(r"(?:double|single)_blocks_\d"):
        yield from _flux_names(names)
    elif names.has(r"(?:single_)?transformer_blocks_\d+_(?:attn_|norm_|norm1_|proj_|ff_)"):
        yield from _diffusers_names(names)
    if names.has(r"transformer_blocks_\d+_attn2_"):
        yield from _cross_attention(names)
    elif names.has(r"blocks_\d+_attn1_"):
        yield from _blocks(names)
    if names.has(r"layers_\d+_attention_(?:qkv|out|to_)"):
        widths = names.inputs(r"layers_\d+_attention_(?:qkv|to_q)")
        if widths == {3840}:
            yield "z_image"
        elif widths == {2304}:
            yield "lumina2"
    if names.has(r"layers_\d+_attn_to_q") and names.inputs(r"layers_\d+_attn_to_q") == {2304}:
        yield "lumina2"


def _by_own_layers(names: Names) -> Iterator[str]:
    """Those that have a layer whose name no other has."""
    for family, patterns in _OWN.items():
        if names.has(*patterns):
            yield family


_OWN: Mapping[str, tuple[str, ...]] = {
    TRANSFORMER: (r"(?:txt_)?mode_blocks_", r"double_blocks_\d+_attn_"),
    "sd3": (r"joint_blocks_\d+_(?:x|context)_block_",),
    "aura_flow": (r"joint_transformer_blocks_\d", r"(?:double|single)_layers_\d+_(?:attn|mlp)"),
    "flux2": (
        r"(?:double|single)_stream_modulation",
        r"single_transformer_blocks_\d+_attn_to_qkv_mlp_proj",
        r"(?:single_)?transformer_blocks_\d+_ff(?:_context)?_linear_(?:in|out)",
    ),
    "hidream": (r"(?:double|single)_stream_blocks_\d+_block_",),
    "qwen_image": (r"transformer_blocks_\d+_txt_(?:mod_\d|mlp_net_)",),
    "chroma": (r"distilled_guidance_layer",),
    "hunyuan_dit": (r"blocks_\d+_attn[12]_(?:Wqkv|q_proj|kv_proj|out_proj)", r"mlp_t5_\d"),
    "wan": (
        r"blocks_\d+_(?:self|cross)_attn_(?:q|k|v|o|k_img|v_img)$",
        r"blocks_\d+_ffn_(?:\d|net_)",
    ),
    "cosmos": (
        r"blocks_\d+_(?:self|cross)_attn_(?:q_proj|k_proj|v_proj|output_proj)$",
        r"blocks_\d+_adaln_modulation_",
        r"blocks_block\d",
        r"llm_adapter_",
    ),
    "mochi": (r"blocks_\d+_attn_(?:qkv|proj)_[xy]$", r"transformer_blocks_\d+_attn1_add_q_proj"),
    "sana": (r"transformer_blocks_\d+_ff_conv_(?:inverted|depth|point)",),
    "ltx": (r"transformer_blocks_\d+_(?:audio_attn|audio_to_video_attn|video_to_audio_attn)",),
    "kandinsky5": (r"(?:visual|text)_transformer_blocks_\d",),
}


def _flux_names(names: Names) -> Iterator[str]:
    """Black Forest Labs' names, `double_blocks.0.img_attn.qkv`, which Tencent's HunyuanVideo has, too."""
    attention = r"double_blocks_\d+_(?:img|txt)_attn_(?:qkv|proj)|single_blocks_\d+_linear1"
    widths = names.inputs(attention)
    double, single = names.last("double_blocks"), names.last("single_blocks")
    if names.has(
        r"(?:double|single)_blocks_\d+_(?:\w{1,20}_)?(?:mod_linear|modulation_linear|mlp_fc[12])",
        "txt_in_individual",
    ):
        yield "hunyuan_video" if widths <= {3072} else TRANSFORMER
    elif names.dotted(r"(?:img|txt)_attn_(?:qkv|proj)\b") and names.dotted(r"double_blocks\.\d"):
        yield "hunyuan_video" if widths <= {3072} else TRANSFORMER
    elif widths and widths <= {4096, 6144}:
        yield "flux2"
    elif names.outputs(r"single_blocks_\d+_linear1") and names.outputs(r"single_blocks_\d+_linear1") <= {
        27648
    }:
        yield "flux2"  # its smallest is as wide as Flux.1, and its gates double the width of the MLP
    elif double > 18 or single > 37:
        yield "hunyuan_video" if (double <= 19 and single <= 39 and widths <= {3072}) else TRANSFORMER
    elif widths <= {3072}:
        yield "flux"
    else:
        yield TRANSFORMER


def _diffusers_names(names: Names) -> Iterator[str]:
    """diffusers' names, `transformer_blocks.0.attn.add_q_proj`, which all that grew out of SD 3 have."""
    widths = names.inputs(r"(?:single_)?transformer_blocks_\d+_attn_(?:to|add)_")
    double, single = names.last("transformer_blocks"), names.last("single_transformer_blocks")
    if names.has("context_embedder_token_refiner"):
        yield "hunyuan_video" if widths <= {3072} else TRANSFORMER
    elif single >= 0:
        if widths <= {3072} and double <= 18 and single <= 37 and _flux_size(names):
            yield "flux"
        elif widths <= {3072} and double <= 19 and single <= 39 and (double == 19 or single > 37):
            yield "hunyuan_video"
    elif widths and widths <= {1536, 2432}:
        yield "sd3"
    elif widths == {3072} and (double > 19 or names.has(r"transformer_blocks_\d+_img_(?:mod|mlp)_")):
        yield "qwen_image"


def _flux_size(names: Names) -> bool:
    """Not Ovis-Image, whose MLP is twice as wide."""
    return names.outputs(r"single_transformer_blocks_\d+_proj_mlp") <= {12288}


def _cross_attention(names: Names) -> Iterator[str]:
    """`transformer_blocks.0.attn1`, `attn2` and `ff`."""
    widths = names.inputs(r"transformer_blocks_\d+_attn[12]_to_q")
    texts = names.inputs(r"transformer_blocks_\d+_attn2_to_k")
    if widths and texts == {1024}:
        yield "cosmos"
    elif widths == {1152} and names.has(r"transformer_blocks_\d+_ff_net_", "adaln_single"):
        yield "pixart"
    elif widths == {2240}:
        yield "sana"
    elif widths == {2048} or (widths == {4096} and texts <= {4096}):
        yield "ltx"


def _blocks(names: Names) -> Iterator[str]:
    """`blocks.0.attn1` and `attn2`, as diffusers calls Wan's and HunyuanDiT's."""
    widths = names.inputs(r"blocks_\d+_attn1_to_q")
    if widths == {1408}:
        yield "hunyuan_dit"
    elif widths and widths <= {1536, 3072, 5120}:
        yield "wan"


def names_of(tensors: Mapping[str, tuple[int, ...]], split: Iterable[tuple[str, str, str]]) -> Names:
    """The modules of a file.

    Args:
        tensors: {key: shape}.
        split: (key, module, role) of each; a key whose role is not known stands for its own module.
    """
    modules: dict[str, tuple[int, int]] = {}
    for key, module, role in split:
        if len(module) > _LONGEST:
            continue
        inputs, outputs = modules.get(module, (0, 0))
        shape = tensors[key]
        if role == "down" and len(shape) > 1:
            inputs = shape[1]
        elif role == "up" and shape:
            outputs = shape[0]
        elif role == "diff" and len(shape) > 1:
            outputs, inputs = shape[:2]
        modules[module] = inputs, outputs
    return Names(modules)


def _bare(name: str) -> str:
    # before dots are lost: `transformer.blocks.0` is not `transformer_blocks.0`
    flat = name.removeprefix("base_model.model.").removeprefix("transformer.").replace(".", "_")
    found = _PREFIX.match(flat)
    return flat[found.end() :] if found else flat
