"""The base's own names with dots, as ComfyUI writes an extracted LoRA: `diffusion_model.input_blocks.4.1...`.

Text encoders are `text_encoders.clip_l` (SD 1.x, the first of SDXL), `.clip_h` (SD 2.x) and `.clip_g` (the
second of SDXL). Source: `comfy_extras/nodes_lora_extract.py` of github.com/comfyanonymous/ComfyUI.
"""

from __future__ import annotations

from .naming import Format, with_text_model
from .sgm import sgm_names

_PREFIXES = {
    "diffusion_model.": "unet",
    "text_encoders.clip_l.": "text_encoder",
    "text_encoders.clip_h.": "text_encoder",
    "text_encoders.clip_g.": "text_encoder_2",
}


def _owner(module: str) -> str | None:
    return next((c for prefix, c in _PREFIXES.items() if module.startswith(prefix)), None)


def _spellings(component: str, path: str) -> tuple[str, ...]:
    prefixes = [prefix for prefix, of in _PREFIXES.items() if of == component]
    if component == "unet":
        return tuple(f"{prefix}{name}" for prefix in prefixes for name in (*sgm_names(path), path))
    return tuple(f"{prefix}transformer.{with_text_model(path)}" for prefix in prefixes)


FORMAT = Format("comfy", _owner, _spellings)
