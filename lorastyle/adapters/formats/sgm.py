"""The names that Stability's own code gives the UNet's modules, from diffusers' names.

`down_blocks.1.attentions.0.proj_in` is `input_blocks.4.1.proj_in`. Blocks are counted through all levels, and
every Stable Diffusion has two residual blocks a level on the way down and three on the way up; the rule is
therefore fixed, and a UNet that is built otherwise gets names of its own that nobody else uses. Sources:
`ldm/modules/diffusionmodules/openaimodel.py` of github.com/CompVis/stable-diffusion, and kohya's
`sdxl_model_util.make_unet_conversion_map`.
"""

from __future__ import annotations

from collections.abc import Mapping

_ENDS: Mapping[str, str] = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET: Mapping[str, str] = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_MIDDLE = {("resnets", "0"): 0, ("attentions", "0"): 1, ("resnets", "1"): 2}


def sgm_names(path: str) -> tuple[str, ...]:
    """What the module at `path` is called there: no name for a path that such a UNet has not, and two for an
    upsampler, whose place depends on whether its level has attention. SDXL's has, and comes first.
    """
    if path in _ENDS:
        return (_ENDS[path],)
    side, *rest = path.split(".")
    if side == "mid_block" and len(rest) > 2 and (place := _MIDDLE.get((rest[0], rest[1]))) is not None:
        return _inside(f"middle_block.{place}", rest[0], rest[2:])
    if side not in ("down_blocks", "up_blocks") or len(rest) < 4 or not (rest[0] + rest[2]).isdecimal():
        return ()
    level, kind, number = int(rest[0]), rest[1], int(rest[2])
    down = side == "down_blocks"
    if kind in ("downsamplers", "upsamplers"):
        if number or rest[3:] != ["conv"] or (kind == "downsamplers") != down:
            return ()
        if down:
            return (f"input_blocks.{3 * level + 3}.0.op",)
        return tuple(f"output_blocks.{3 * level + 2}.{place}.conv" for place in (2, 1))
    if kind not in ("resnets", "attentions") or number >= (2 if down else 3):
        return ()
    block = f"input_blocks.{3 * level + number + 1}" if down else f"output_blocks.{3 * level + number}"
    return _inside(f"{block}.{int(kind == 'attentions')}", kind, rest[3:])


def _inside(block: str, kind: str, rest: list[str]) -> tuple[str, ...]:
    if kind == "attentions":
        return (".".join([block, *rest]),)
    name = ".".join(rest)
    return (f"{block}.{_RESNET[name]}",) if name in _RESNET else ()
