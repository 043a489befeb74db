"""kohya's sd-scripts: a network is made of the layers that the file names, in kohya's own UNet."""

from __future__ import annotations

from ..contents import FileModule
from .reader import Reader, View
from .spelled import is_embedding, is_end, is_lora, is_stability, of_alpha, prefix


def _refuses(view: View) -> str | None:
    tucker = next((module for module in view.modules if "mid" in module.entries), None)
    if tucker is not None:
        return f"the core of a Tucker LoRA does not fit networks.lora: {tucker.spelled}"
    return None


def _loses(view: View, module: FileModule) -> str | None:
    flat = prefix(module)
    if not flat:
        return "names with dots are not looked up"
    if not is_lora(module):
        return "networks.lora reads LoRA alone; for LyCORIS there is --network_module lycoris.kohya"
    wanted = ("lora_te1_", "lora_te2_") if view.family == "sdxl" else ("lora_te_",)
    if flat not in ("lora_unet_", *wanted):
        return f"names that begin with {flat} are not looked up"
    if is_embedding(module) or is_end(module) or module.spelled.endswith("_text_projection"):
        return "layers outside of attention, resnets and samplers are left out"
    if view.family != "sdxl" and is_stability(module):
        return "the original names are looked up for SDXL alone"
    return None


def _changes(view: View, module: FileModule) -> str | None:
    if module.entries.keys() & {"magnitude", "row_magnitude"}:
        return "DoRA is read as LoRA, without its magnitudes"
    return None


def _factor(view: View, module: FileModule) -> float | None:
    return 1.0 if module.alpha == 0 else of_alpha(module)  # an alpha of 0 stands for the rank there


READER = Reader(
    "sd-scripts",
    "kohya-ss/sd-scripts of 2026-02, networks/lora.py",
    _loses,
    _factor,
    _refuses,
    _changes,
)
