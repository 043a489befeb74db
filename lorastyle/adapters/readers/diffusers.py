"""diffusers: a file is all kohya's or none of it, and has one alpha for most of a component."""

from __future__ import annotations

from collections import Counter

from ..contents import FileModule
from .reader import Reader, View
from .spelled import LORA, ends_like, has_known_body, inside, is_attention, is_stability, of_alpha

_KOHYA = ("lora_te_", "lora_unet_", "lora_te1_", "lora_te2_")
_METADATA = "lora_adapter_metadata"


def _kohya(view: View) -> bool:
    return all(key.startswith(_KOHYA) for key in view.keys)


def _refuses(view: View) -> str | None:
    return _refuses_kohya(view) if _kohya(view) else _refuses_dotted(view)


def _refuses_kohya(view: View) -> str | None:
    if _METADATA in view.metadata:
        return f"kohya's names together with {_METADATA} are an error"
    for module in view.modules:
        strange = module.entries.keys() - LORA - {"magnitude"}
        if strange or not ends_like(module, (".lora_down.weight", ".lora_up.weight")):
            key = next((module.keys[role] for role in module.entries if role in strange), module.spelled)
            return f"under kohya's names it knows LoRA alone; this stops the file: {key}"
        if view.family != "sdxl" and is_stability(module):
            return f"the original names are known for SDXL alone: {module.spelled}"
    return None


def _refuses_dotted(view: View) -> str | None:
    if odd := next((key for key in view.keys if "lora" not in key and "dora_scale" not in key), None):
        mixed = any(key.startswith(_KOHYA) for key in view.keys)
        more = "; beside it, kohya's names are not converted either" if mixed else ""
        return f"each name must have 'lora' in it: {odd}{more}"
    texts = [m for m in view.modules if m.component != "unet" and m.spelled.startswith(f"{m.component}.")]
    for component in dict.fromkeys(module.component for module in texts):
        keys = [m.keys["down"] for m in texts if m.component == component and "down" in m.keys]
        if not any(".lora_A.weight" in k or "to_out_lora" in k or "lora_linear_layer" in k for k in keys):
            return f"it cannot tell how the tensors of {component} are spelled"
    return None


def _first_is_peft(view: View) -> bool:
    first = next((key for key in view.keys if key.startswith("unet.")), "")
    return "lora_A" in first


def _loses(view: View, module: FileModule) -> str | None:
    if _kohya(view):
        if not has_known_body(module):
            return "names that begin like this match nothing"
        lost = view.family == "sdxl" and inside(module).startswith("add_embedding")
        return "diffusers' name of this layer is not converted" if lost else None
    if not module.spelled.startswith(f"{module.component}."):
        return "only names that begin with unet, text_encoder or text_encoder_2 are looked for"
    if is_stability(module):
        return "the original names are known in kohya's spelling alone"
    if module.component == "unet" and _first_is_peft(view) and "lora_A" not in module.keys.get("down", ""):
        return "the first tensor is spelled lora_A, and those that are not are lost"
    if module.end("down") not in _PLAIN and "lora_A" in module.end("down"):
        return f"tensors that end with {module.end('down')} are not looked up"
    return None


_PLAIN = (".lora_A.weight",)


def _changes(view: View, module: FileModule) -> str | None:
    if "magnitude" in module.entries:
        return "DoRA is read as LoRA, without its magnitudes"
    return None


def _factor(view: View, module: FileModule) -> float | None:
    if not _kohya(view):
        return module.strength if _METADATA in view.metadata else of_alpha(module)
    alphas = Counter(m.alpha for m in view.modules if m.component == module.component and m.alpha is not None)
    if module.rank is None or not alphas:
        return of_alpha(module)
    common = alphas.most_common(1)[0][0]
    own = module.alpha is not None and module.component == "unet" and not is_attention(module)
    return (module.alpha if own and module.alpha is not None else common) / module.rank


READER = Reader(
    "diffusers",
    "diffusers 0.42 with peft 0.21, loaders/lora_pipeline.py and utils/peft_utils.py",
    _loses,
    _factor,
    _refuses,
    _changes,
)
