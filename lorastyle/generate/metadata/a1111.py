"""The text that A1111, Forge and Civitai read from pictures.

    <prompt> <lora:cat:0.8>
    Negative prompt: <text>
    Steps: 30, Sampler: DDIM, CFG scale: 5.0, Seed: 7, Size: 512x512, Model hash: 0123456789, Model: dream,
    Lora hashes: "cat: 0123456789ab"

The last two lines are one.

A prompt with a line that begins with "Negative prompt:" cannot be told from this form, here or in A1111; in
lorastyle's own text it is kept as it is.
"""

from __future__ import annotations

import json
import re

from ..request import GenerateRequest
from ..schedulers import SCHEDULERS
from ..uses import AdapterUse
from .portable import adapter_name

NEGATIVE = "Negative prompt:"
UPSCALER = "Latent (bicubic antialiased)"  # what `hires` does, by A1111's name


def lora_name(name: str) -> str:
    """An adapter's name without the letters that `<lora:...>` and `Lora hashes` need for themselves."""
    return re.sub(r"[:,<>]", "", adapter_name(name))


def write_parameters(request: GenerateRequest, version: str) -> str:
    """The `parameters` text of the picture that `request` draws.

    As A1111 takes them, `Lora hashes` are of the tensor data alone (Civitai's AutoV3), and `Model hash` is of
    the whole checkpoint file (AutoV2). A folder has no hash that anybody would know it by, and states none.
    """
    tags = "".join(f" <lora:{lora_name(use.name)}:{_scales(use)}>" for use in request.adapters)
    lines = [request.prompt + tags]
    if request.negative_prompt:
        lines.append(f"{NEGATIVE} {request.negative_prompt}")
    scheduler = None if request.scheduler is None else SCHEDULERS[request.scheduler]
    hashes = ", ".join(f"{lora_name(use.name)}: {use.hash}" for use in request.adapters if use.hash)
    hires = request.hires > 1
    pairs: dict[str, object] = {
        "Steps": request.steps,
        "Sampler": scheduler and scheduler.sampler,
        "Schedule type": scheduler and scheduler.schedule_type,
        "CFG scale": request.guidance,
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}" if request.width and request.height else None,
        "Model hash": request.base_hash,
        "Model": request.base and adapter_name(request.base),
        "Denoising strength": request.hires_strength if hires else request.strength,
        "Clip skip": request.clip_skip if request.clip_skip > 1 else None,
        "RNG": "CPU",
        "Hires upscale": f"{request.hires:g}" if hires else None,
        "Hires upscaler": UPSCALER if hires else None,
        "Lora hashes": hashes or None,
        "Version": f"lorastyle {version}".strip(),
    }
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items() if value is not None))
    return "\n".join(lines)


def _scales(use: AdapterUse) -> str:
    """One number, or that of the text encoder and that of the UNet."""
    te, unet = (use.scale_on(component) for component in ("text_encoder", "unet"))
    return _plain(unet) if te == unet else f"{_plain(te)}:{_plain(unet)}"


def _plain(scale: float) -> str:
    """As short as it can be while it is the same number."""
    return repr(scale).removesuffix(".0")


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n]", text) else text
