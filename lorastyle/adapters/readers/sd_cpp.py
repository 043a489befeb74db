"""stable-diffusion.cpp: names are turned into those of the original model; what is left over is counted."""

from __future__ import annotations

from ..contents import FileModule
from .reader import Reader, View
from .spelled import fused, has_known_body, inside, is_embedding, is_end, is_lora, of_alpha, prefix

_ENDINGS = frozenset(
    {
        ".lora_down.weight",
        ".lora.down.weight",
        "_lora.down.weight",
        ".lora_A.weight",
        ".lora_A.default.weight",
        ".lora_A",
    }
)

_TEXT = ("te_", "te1_", "te2_", "te.", "te1.", "te2.", "cond_stage_model.")


def _loses(view: View, module: FileModule) -> str | None:
    roles, flat = module.entries.keys(), prefix(module)
    if not (is_lora(module) or roles & {"hada_w1_a", "lokr_w1", "lokr_w1_a", "diff", "diff_b"}):
        return f"{module.algorithm or 'this kind of update'} is not read"
    if "lokr_t2" in roles:
        return "LoKr with a Tucker core is not read"
    if is_lora(module) and module.end("down") not in _ENDINGS:
        return f"tensors that end with {module.end('down')} are not looked up"
    if flat == "oft_unet_" or module.spelled.startswith("base_model."):
        return "names that begin with {} are not looked up".format(flat or "base_model.model.")
    if module.component != "unet":
        return _loses_text(view, module, flat)
    if is_embedding(module) or (is_end(module) and not inside(module).startswith(("input_blocks", "out_2"))):
        return "names of the embeddings, and diffusers' names of the first and last layer, are not converted"
    return None


def _loses_text(view: View, module: FileModule, flat: str) -> str | None:
    if not flat and not module.spelled.startswith(_TEXT):
        return "text encoders' names with dots are not converted"
    if flat and not has_known_body(module):
        return "text encoders' names that begin like this are not converted"
    if inside(module) == "text_projection":
        return "a text projection is not looked up"
    attention = fused(module, view.by_name) is not None and not module.spelled.endswith("_out_proj")
    if view.family == "sd2" and attention:
        return "q, k and v of SD 2's text encoder are one layer, which is not split"
    return None


def _changes(view: View, module: FileModule) -> str | None:
    if module.entries.keys() & {"magnitude", "row_magnitude"}:
        return "DoRA is read as LoRA, without its magnitudes"
    if module.entries.keys() & {"up_bias", "bias", "bias_values"}:
        return "the bias is not read"
    if "diff" in module.entries and is_lora(module):
        return "the full difference beside the factors is not read"
    if "diff" in module.entries and module.entries.keys() & {"hada_w1_a", "lokr_w1", "lokr_w1_a"}:
        return "the full difference replaces the factors beside it"
    return None


def _factor(view: View, module: FileModule) -> float | None:
    if module.rank == 1 and module.entries.keys() & {"lokr_w1", "lokr_w1_a"}:
        return 1.0  # a LoKr of rank 1 is taken for one without a rank
    return of_alpha(module, scale=is_lora(module))


READER = Reader(
    "stable-diffusion.cpp",
    "stable-diffusion.cpp of 2026-08, src/name_conversion.cpp and src/model/adapter/lora.hpp",
    _loses,
    _factor,
    changes=_changes,
)
