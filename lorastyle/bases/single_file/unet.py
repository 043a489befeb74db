"""The UNet: from blocks numbered in the order they run to levels of diffusers' UNet2DConditionModel.

In the file `input_blocks` and `output_blocks` count on through all levels. Block N holds a residual block
(`in_layers...`), a transformer where the level has attention, and a sampler (`op` down, `conv` up) at a
level's end. Nothing else marks the levels, so they are found by walking, whatever their number and length.
Source of the names: `ldm/modules/diffusionmodules/openaimodel.py` of github.com/CompVis/stable-diffusion.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .parts import LayoutError, Part, Shapes, Source, distinct, size, under

PREFIX = "model.diffusion_model."

_MODULE = re.compile(r"((?:input|output)_blocks\.\d+\.\d+|middle_block\.\d+)\.(.+)")
_DEPTH = re.compile(r"transformer_blocks\.(\d+)\.")
_KINDS = {
    "in_layers.0.weight": "resnets",
    "proj_in.weight": "attentions",
    "op.weight": "samplers",
    "conv.weight": "samplers",
}
_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


@dataclass
class _Level:
    """Module paths in the file, in the order they run."""

    resnets: list[str] = field(default_factory=list[str])
    attentions: list[str] = field(default_factory=list[str])
    samplers: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class _Walked:
    shapes: Shapes
    depths: Mapping[str, int]  # transformer's path: number of its blocks
    down: Sequence[_Level]
    middle: _Level
    up: Sequence[_Level]


def unet_part(shapes: Shapes, *, head_size: int | None) -> Part:
    """Config and sources of the UNet.

    Args:
        shapes: every tensor of the file.
        head_size: channels of one attention head, where it is the same at all levels (SD 2.x, SDXL); None
            means eight heads at every level (SD 1.x). Tensors do not show it.

    Raises:
        LayoutError: it cannot be told how the blocks belong together.
    """
    walked = _walk(under(shapes, PREFIX))
    stems = {**_ENDS, **_stems(walked)}
    moved = _moved(walked)
    sources = ((_renamed(name, stems, moved), Source(PREFIX + name)) for name in walked.shapes)
    return Part(_config(walked, head_size), distinct(sources))


def _walk(shapes: Shapes) -> _Walked:
    kinds: dict[str, str] = {}
    depths: dict[str, set[str]] = {}
    for name in shapes:
        if (found := _MODULE.fullmatch(name)) is None:
            continue
        path, rest = found[1], found[2]
        if rest in _KINDS:
            kinds[path] = _KINDS[rest]
        if block := _DEPTH.match(rest):
            depths.setdefault(path, set()).add(block[1])
    down, up = _levels(kinds, "input_blocks", 1), _levels(kinds, "output_blocks", 0)
    shown = [len(level.resnets) for level in down], [len(level.resnets) for level in up]
    if 0 in shown[0] or [n + 1 for n in reversed(shown[0])] != shown[1]:
        raise LayoutError(f"its UNet has {shown[0]} residual blocks on the way down and {shown[1]} up")
    middle = _Level()
    for path in (f"middle_block.{n}" for n in range(3)):
        if path in kinds:
            getattr(middle, kinds[path]).append(path)
    for level in (*down, *up):
        if len(level.attentions) not in (0, len(level.resnets)):
            raise LayoutError(f"{level.resnets[0]} and its neighbours have attention in some blocks only")
    return _Walked(shapes, {path: len(blocks) for path, blocks in depths.items()}, down, middle, up)


def _levels(kinds: Mapping[str, str], section: str, start: int) -> list[_Level]:
    levels = [_Level()]
    for number in itertools.count(start):
        here = [path for path in (f"{section}.{number}.{n}" for n in range(3)) if path in kinds]
        if not here:
            return levels
        if levels[-1].samplers:
            levels.append(_Level())
        for path in here:
            getattr(levels[-1], kinds[path]).append(path)
    return levels


def _config(walked: _Walked, head_size: int | None) -> dict[str, Any]:
    shapes, down, middle, up = walked.shapes, walked.down, walked.middle, walked.up
    channels = [size(shapes, f"{level.resnets[0]}.in_layers.2.weight", 0) for level in down]
    text = _text_width(walked)
    if middle.attentions or not middle.resnets:
        mid_type = "UNetMidBlock2DCrossAttn" if middle.resnets else None
    else:  # a single residual block, as in SSD-1B
        mid_type = "UNetMidBlock2D"
    mid_depth = walked.depths.get(middle.attentions[0], 0) if middle.attentions else 1
    depths = [_depth(walked, level, mid_depth if level is down[-1] else 1) for level in down]
    up_depths = [_depth(walked, level, mid_depth if level is up[0] else 1) for level in up]
    plain = all(isinstance(depth, int) for depth in depths)
    config: dict[str, Any] = {
        "in_channels": size(shapes, "input_blocks.0.0.weight", 1),
        "out_channels": size(shapes, "out.2.weight", 0),
        "block_out_channels": tuple(channels),
        "down_block_types": tuple(
            "CrossAttnDownBlock2D" if level.attentions else "DownBlock2D" for level in down
        ),
        "mid_block_type": mid_type,
        "up_block_types": tuple("CrossAttnUpBlock2D" if level.attentions else "UpBlock2D" for level in up),
        "layers_per_block": _one([len(level.resnets) for level in down]),
        "transformer_layers_per_block": _one(depths) if plain else tuple(depths),
        "reverse_transformer_layers_per_block": None if plain and up_depths == depths[::-1] else up_depths,
        "cross_attention_dim": text,
        "attention_head_dim": 8 if head_size is None else _one([max(1, c // head_size) for c in channels]),
        "use_linear_projection": _is_linear(walked),
    }
    if "label_emb.0.0.weight" in shapes:
        config["addition_embed_type"] = "text_time"
        config["projection_class_embeddings_input_dim"] = size(shapes, "label_emb.0.0.weight", 1)
    return config


def _transformers(walked: _Walked) -> list[str]:
    return [path for level in (*walked.down, walked.middle, *walked.up) for path in level.attentions]


def _text_width(walked: _Walked) -> int:
    widths = {
        size(walked.shapes, f"{path}.transformer_blocks.0.attn2.to_k.weight", 1)
        for path in _transformers(walked)
    }
    if len(widths) != 1:
        raise LayoutError(f"its UNet reads text of the widths {sorted(widths)}, where one is needed")
    return widths.pop()


def _is_linear(walked: _Walked) -> bool:
    return len(walked.shapes[f"{_transformers(walked)[0]}.proj_in.weight"]) == 2


def _depth(walked: _Walked, level: _Level, otherwise: int) -> int | list[int]:
    """How many blocks each transformer of a level has; the mid block's are taken from the last level."""
    depths = [walked.depths.get(path, 0) for path in level.attentions]
    if not depths:
        return otherwise
    return depths[0] if len(set(depths)) == 1 else depths


def _one(values: Sequence[Any]) -> Any:
    """The value itself where all are equal, as diffusers' configs write it."""
    return values[0] if all(value == values[0] for value in values) else tuple(values)


def _stems(walked: _Walked) -> dict[str, str]:
    """What a weight's or bias's name starts with, for layers whose names differ in diffusers."""
    stems: dict[str, str] = {}
    for old, new in _paired(walked, "resnets"):
        stems |= {f"{old}.{layer}": f"{new}.{name}" for layer, name in _RESNET.items()}
    for level, samplers in ((walked.down, "down"), (walked.up, "up")):
        layer = "op" if samplers == "down" else "conv"
        for n, at in enumerate(level):
            stems |= {
                f"{path}.{layer}": f"{samplers}_blocks.{n}.{samplers}samplers.{k}.conv"
                for k, path in enumerate(at.samplers)
            }
    return stems


def _moved(walked: _Walked) -> dict[str, str]:
    """New paths of modules whose insides keep their names."""
    return dict(_paired(walked, "attentions"))


def _paired(walked: _Walked, kind: str) -> list[tuple[str, str]]:
    places = [(f"down_blocks.{n}", level) for n, level in enumerate(walked.down)]
    places += [("mid_block", walked.middle)]
    places += [(f"up_blocks.{n}", level) for n, level in enumerate(walked.up)]
    return [
        (path, f"{place}.{kind}.{n}")
        for place, level in places
        for n, path in enumerate(getattr(level, kind))
    ]


def _renamed(name: str, stems: Mapping[str, str], moved: Mapping[str, str]) -> str:
    """The name in diffusers; one that no UNet has stays as it is, and is found to be left over."""
    stem, _, leaf = name.rpartition(".")
    if stem in stems:
        return f"{stems[stem]}.{leaf}"
    found = _MODULE.fullmatch(name)
    return f"{moved[found[1]]}.{found[2]}" if found and found[1] in moved else name
