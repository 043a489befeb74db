"""kohya's sd-scripts: a network is made of the layers that the file names, in kohya's own UNet."""

from __future__ import annotations

from ..contents import FileModule
from .reader import Reader, View
from .spelled import (
    beside_factors,
    ends_like,
    has_known_body,
    is_convolution,
    is_embedding,
    is_end,
    is_lora,
    is_stability,
    is_text_linear,
    of_alpha,
    prefix,
)


def _refuses(view: View) -> str | None:
    for module in view.modules:
        if _loses(view, module) is not None:
            continue
        if "mid" in module.entries:
            return f"the core of a Tucker LoRA does not fit networks.lora: {module.spelled}"
        sizes = 4 if is_convolution(module, view.family) else 2
        if len(module.entries["down"].shape) != sizes:
            return f"it stops at factors that do not have the shape of their layer: {module.spelled}"
    return None


def _loses(view: View, module: FileModule) -> str | None:
    flat = prefix(module)
    if not flat or not has_known_body(module):
        return (
            "names with dots are not looked up"
            if "." in module.spelled
            else "names that begin like this are not looked up"
        )
    if not is_lora(module):
        return "networks.lora reads LoRA alone; for LyCORIS there is --network_module lycoris.kohya"
    if not ends_like(module, (".lora_down.weight", ".lora_up.weight")):
        return "only factors named lora_down and lora_up are read"
    wanted = ("lora_te1_", "lora_te2_") if view.family == "sdxl" else ("lora_te_",)
    if flat not in ("lora_unet_", *wanted):
        return f"names that begin with {flat} are not looked up"
    text = module.component != "unet" and not is_text_linear(module)
    if text or is_embedding(module) or is_end(module):
        return "layers outside of attention, resnets and samplers are left out"
    if view.family != "sdxl" and is_stability(module):
        return "the original names are looked up for SDXL alone"
    return None


def _changes(view: View, module: FileModule) -> str | None:
    if module.entries.keys() & {"magnitude", "row_magnitude"}:
        return "DoRA is read as LoRA, without its magnitudes"
    if module.alpha == 0:
        return "alpha is 0, which it takes for the rank: the module acts at full strength"
    return beside_factors(module)


def _factor(view: View, module: FileModule) -> float | None:
    return None if module.alpha == 0 else of_alpha(module)  # no factor makes something of nothing


READER = Reader(
    "sd-scripts",
    "kohya-ss/sd-scripts of 2026-02, networks/lora.py",
    _loses,
    _factor,
    _refuses,
    _changes,
)
