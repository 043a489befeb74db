"""Which block of a base a module belongs to, told by its path or by a name that files have for it.

A UNet's blocks are those that people weigh by themselves: the attention, and the residual block, at one place
of one level: `IN04` in A1111's LoRA Block Weight, `input_blocks.4` in Stability's names. Of a text encoder,
four layers make one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .formats.sgm import sgm_names

_LAYERS = 4
_UNET = re.compile(
    r"(?:^|[._])(down|up)_blocks[._](\d{1,4})[._](attentions|resnets|downsamplers|upsamplers)[._](\d{1,4})"
)
_MIDDLE = re.compile(r"(?:^|[._])mid(?:dle)?_block(?:[._]|$)")
_LAYER = re.compile(r"(?:^|[._])layers[._](\d{1,4})(?:[._]|$)")
_ENDS_AT = {
    "conv_in": (0, "", 0, 0),
    "time_embedding": (0, "", 1, 0),
    "add_embedding": (0, "", 2, 0),
    "conv_norm_out": (4, "", 0, 0),
    "conv_out": (4, "", 1, 0),
}
_ENDS = re.compile(rf"(?:^|[._])({'|'.join(_ENDS_AT)})(?:[._]|$)")
_NUMBERED = re.compile(  # what is in no diffusers UNet: Stability's names, and diffusion transformers
    r"(?:^|[._])((?:input|output|double|single|joint|single_transformer|transformer)_blocks)[._](\d{1,4})"
)


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        order: sorts a component's blocks as the base runs through them; equal for modules of one block.
        name: the start of its modules' paths.
    """

    order: tuple[int, str, int, int]
    name: str

    @property
    def alias(self) -> str:
        """Its name in A1111's LoRA Block Weight, which counts as every Stable Diffusion is built; or nothing.

        Source: the README of github.com/hako-mikan/sd-webui-lora-block-weight.
        """
        if self.name == "mid_block":
            return "M00"
        side, _, rest = self.name.partition("_blocks.")
        level, _, kind = rest.partition(".")
        kind, _, place = kind.partition(".")
        module = "conv" if kind.endswith("samplers") else "conv1" if kind == "resnets" else "norm"
        names = sgm_names(f"{side}_blocks.{level}.{kind}.{place}.{module}")
        if not names:
            return ""
        return f"{'IN' if side == 'down' else 'OUT'}{int(names[0].split('.')[1]):02}"


def block_of(module: str) -> Block:
    """The block of a module, by its path in the model or its name in a file, dotted or flattened.

    The start of a flattened name can be read without the model: no name of a block has an underscore that
    could be a dot.
    """
    if found := _UNET.search(module):
        side, level, kind, place = found.groups()
        down, last = side == "down", kind.endswith("samplers")
        order = (1 if down else 3, "", int(level), 10_000 if last else int(place))
        return Block(order, f"{side}_blocks.{int(level)}.{kind}.{int(place)}")
    if _MIDDLE.search(module):
        return Block((2, "", 0, 0), "mid_block")
    if found := _LAYER.search(module):
        first = int(found[1]) // _LAYERS * _LAYERS
        return Block((1, "", first, 0), f"layers.{first}-{first + _LAYERS - 1}")
    if found := _ENDS.search(module):
        return Block(_ENDS_AT[found[1]], found[1])
    if found := _NUMBERED.search(module):
        return Block((5, found[1], int(found[2]), 0), f"{found[1]}.{int(found[2])}")
    return Block((6, "", 0, 0), "others")


def common_name(names: set[str]) -> str:
    """Of a block's names one that is true of all its modules: `down_blocks.1.*.0` has two kinds in it."""
    if len(names) == 1:
        return next(iter(names))
    shared = {re.sub(r"\.(attentions|resnets)\.", ".*.", name) for name in names}
    return min(shared)
