"""ComfyUI: each layer of the model is looked up under some names and endings; the rest is told in the log."""

from __future__ import annotations

from ..contents import FileModule
from .key_map import ENDINGS, fails, unmapped, unread
from .reader import Reader, View
from .spelled import left_out, of_alpha

_ENDINGS = ENDINGS | {".lora_A", ".lora_A.default.weight"}


def _loses(view: View, module: FileModule) -> str | None:
    roles = module.entries.keys()
    if "weight" in roles or "on_input" in roles:
        return "IA3 is not read"
    if "oft_diag" in roles:
        return "OFT is read as oft_blocks, not as oft_diag"
    if roles <= {"bias", "bias_indices", "bias_values", "bias_size"}:
        return "a bias is read as diff_b alone"
    if _is_boft(module) and module.alpha is None:
        return "applying BOFT without an alpha fails"
    return fails(module) or unmapped(view, module, generic_text=True) or unread(module, _ENDINGS)


def _is_boft(module: FileModule) -> bool:
    return "oft_blocks" in module.entries and len(module.entries["oft_blocks"].shape) == 4


def _changes(view: View, module: FileModule) -> str | None:
    if "oft_blocks" in module.entries:
        if module.alpha is not None and module.alpha > 0:
            return (
                "the rotation is limited to alpha instead of alpha times the rows, and has hardly any effect"
            )
        if "rescale" in module.entries and not _is_boft(module):
            return "the rescale of OFT is not read"
    return left_out(
        module, "DoRA magnitudes of outputs are divided by the norm of the base's weight, without the update"
    )


READER = Reader(
    "ComfyUI",
    "ComfyUI of 2025-10, comfy/lora.py and comfy/weight_adapter",
    _loses,
    lambda view, module: of_alpha(module),
    changes=_changes,
)
