"""Forge: ComfyUI's key map; a file of which more than twelve tensors are left over is not loaded."""

from __future__ import annotations

from ..contents import FileModule
from .key_map import ENDINGS, fails, unmapped, unread
from .reader import Reader, View
from .spelled import left_out, of_alpha

_MOST_LEFT = 12
_ANYWAY = frozenset({"alpha", "magnitude"})  # taken off the list under every name that is looked up
_UNREAD = frozenset({"scale", "row_magnitude", "up_bias", "bias", "bias_indices", "bias_values", "bias_size"})


def _unread(module: FileModule) -> str | None:
    roles = module.entries.keys()
    for role, algorithm in (("weight", "IA3"), ("oft_blocks", "OFT"), ("oft_diag", "OFT")):
        if role in roles:
            return f"{algorithm} is not read"
    if roles <= _UNREAD:
        return "a bias is read as diff_b alone"
    return unread(module, ENDINGS)


def _loses(view: View, module: FileModule) -> str | None:
    return unmapped(view, module, generic_text=False) or _unread(module)


def _refuses(view: View) -> str | None:
    for module in view.modules:
        if (why := fails(module)) and unmapped(view, module, generic_text=False) is None:
            return f"{why}, which stops the image: {module.spelled}"
    left = len(view.others)
    for module in view.modules:
        if unmapped(view, module, generic_text=False):
            left += len(module.entries)
        elif _unread(module):
            left += len(module.entries.keys() - _ANYWAY)
        else:
            left += len(module.entries.keys() & _UNREAD)
    if left <= _MOST_LEFT:
        return None
    why = next((why for module in view.modules if (why := _loses(view, module))), "no layer has their names")
    return f"more than {_MOST_LEFT} tensors would be left over ({left:,}), so none is loaded: {why}"


READER = Reader(
    "Forge",
    "stable-diffusion-webui-forge of 2025-06, sd_forge_lora/networks.py and comfyui_lora_collection/lora.py",
    _loses,
    lambda view, module: of_alpha(module),
    _refuses,
    lambda view, module: left_out(
        module, "DoRA magnitudes of outputs are divided by the norm of the base's weight, without the update"
    ),
)
