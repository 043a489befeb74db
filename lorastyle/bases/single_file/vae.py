"""The autoencoder: diffusers' AutoencoderKL from `first_stage_model`.

The decoder's levels are numbered from the picture inwards in the file and from the latents outwards in
diffusers. Attention is four convolutions of 1 x 1 in the file and four Linears in diffusers. Source of the
names: `ldm/modules/diffusionmodules/model.py` of github.com/CompVis/stable-diffusion.
"""

from __future__ import annotations

import re
from typing import Any

from .parts import LayoutError, Part, Shapes, Source, distinct, size, under

PREFIX = "first_stage_model."

_IGNORED = re.compile(r"loss\.|model_ema\.")  # what only its training needed
_LEVEL = re.compile(
    r"(?P<side>encoder|decoder)\.(?:down|up)\.(?P<level>\d+)\."
    r"(?:block\.(?P<block>\d+)|(?P<sampler>downsample|upsample))\.(?P<rest>.+)"
)
_MIDDLE = re.compile(r"(?P<side>encoder|decoder)\.mid\.(?P<kind>block|attn)_(?P<number>\d+)\.(?P<rest>.+)")
_ENDS = {
    f"{side}.norm_out.{leaf}": f"{side}.conv_norm_out.{leaf}"
    for side in ("encoder", "decoder")
    for leaf in ("weight", "bias")
}
_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
    # names that converters wrote when they knew only the newer or the older of diffusers' own
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}


def vae_part(shapes: Shapes) -> Part:
    """Config and sources of the autoencoder; `shapes` are all tensors of the file.

    Raises:
        LayoutError: a tensor that gives a size is missing.
    """
    inside = {name: shape for name, shape in under(shapes, PREFIX).items() if not _IGNORED.match(name)}
    levels = {int(found["level"]) for name in inside if (found := _LEVEL.fullmatch(name))}
    if levels != set(range(len(levels))):
        raise LayoutError(f"its autoencoder has the levels {sorted(levels)}")
    names = {name: _renamed(name, len(levels)) for name in inside}
    sources = (
        (new, Source(PREFIX + name, flat=".attentions." in new and name.endswith(".weight")))
        for name, new in names.items()
    )
    return Part(_config(inside, len(levels)), distinct(sources))


def _config(inside: Shapes, levels: int) -> dict[str, Any]:
    blocks = {
        found["block"]
        for name in inside
        if (found := _LEVEL.fullmatch(name)) and found["side"] == "encoder" and found["block"]
    }
    return {
        "in_channels": size(inside, "encoder.conv_in.weight", 1),
        "out_channels": size(inside, "decoder.conv_out.weight", 0),
        "latent_channels": size(inside, "decoder.conv_in.weight", 1),
        "block_out_channels": tuple(
            size(inside, f"encoder.down.{n}.block.0.conv1.weight", 0) for n in range(levels)
        ),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": len(blocks),
    }


def _renamed(name: str, levels: int) -> str:
    """The name in diffusers; one that no autoencoder has stays as it is, and is found to be left over."""
    if name in _ENDS:
        return _ENDS[name]
    if found := _LEVEL.fullmatch(name):
        side, level, rest = found["side"], int(found["level"]), found["rest"]
        place = (
            f"encoder.down_blocks.{level}" if side == "encoder" else f"decoder.up_blocks.{levels - 1 - level}"
        )
        if found["sampler"]:
            return f"{place}.{found['sampler']}rs.0.{rest}"
        return f"{place}.resnets.{found['block']}.{rest.replace('nin_shortcut.', 'conv_shortcut.')}"
    if found := _MIDDLE.fullmatch(name):
        side, number, rest = found["side"], int(found["number"]) - 1, found["rest"]
        if found["kind"] == "block":
            return f"{side}.mid_block.resnets.{number}.{rest}"
        layer, _, leaf = rest.rpartition(".")
        return f"{side}.mid_block.attentions.{number}.{_ATTENTION.get(layer, layer)}.{leaf}"
    return name
