"""The text that A1111, Forge and Civitai write into pictures and read from them.

    <prompt> <lora:cat:0.8>
    Negative prompt: <text>
    Steps: 30, Sampler: DDIM, CFG scale: 5.0, Seed: 7, Size: 128x128, Lora hashes: "cat: 0123456789ab"

The last line counts as parameters where it holds at least three pairs.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from pathlib import PureWindowsPath

from lorastyle.errors import PictureError

from ..request import CLIP_SKIP, GUIDANCE, MAX_SEED, MAX_TEXT, SIZES, STEPS, AdapterUse, GenerateRequest
from ..schedulers import SCHEDULERS, scheduler_name

# Each pattern reads a text once: bounded names, and nothing that could begin in many places.
_PAIR = re.compile(r'(?:^|,)[ \t]*(\w[\w \-/]{0,80}?):[ \t]*("(?:\\.|[^\\"])+"|[^,]*)')
_LORA = re.compile(r"<lora:([^:<>]{1,500})((?::[^:<>]{0,100}){0,8})>")
MAX_TEXT_READ = 64 * 1024
_NEGATIVE = "Negative prompt:"


def lora_name(name: str) -> str:
    """A path or name as A1111 names it: the file's stem, without the letters its syntax needs."""
    stem = PureWindowsPath(name).name.removesuffix(".safetensors")  # splits at / and at \
    return re.sub(r"[:,<>]", "", stem)


def write_parameters(request: GenerateRequest, version: str) -> str:
    """The `parameters` text of the picture that `request` draws."""
    tags = "".join(f" <lora:{lora_name(use.name)}:{use.scale:g}>" for use in request.adapters)
    lines = [request.prompt + tags]
    if request.negative_prompt:
        lines.append(f"{_NEGATIVE} {request.negative_prompt}")
    scheduler = None if request.scheduler is None else SCHEDULERS[request.scheduler]
    hashes = ", ".join(f"{lora_name(use.name)}: {use.hash}" for use in request.adapters if use.hash)
    pairs: dict[str, object] = {
        "Steps": request.steps,
        "Sampler": scheduler and scheduler.sampler,
        "Schedule type": scheduler and scheduler.schedule_type,
        "CFG scale": request.guidance,
        "Clip skip": request.clip_skip if request.clip_skip > 1 else None,
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}" if request.width and request.height else None,
        "Model": request.base and PureWindowsPath(request.base).name,
        "Lora hashes": hashes or None,
        "Version": f"lorastyle {version}",
    }
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items() if value is not None))
    return "\n".join(lines)


def read_parameters(text: str) -> GenerateRequest:
    """The request that `parameters` text describes, numbers clamped to what is allowed.

    A sampler that lorastyle does not have is named in a warning. A1111 draws its noise elsewhere, so the same
    seed is not the same picture. The base is left open: the text names a file, not a base.

    Raises:
        PictureError: no parameters in the text, or values that are no numbers.
    """
    if len(text) > MAX_TEXT_READ:
        raise PictureError(
            f"The picture's `parameters` text has {len(text):,} letters; at most {MAX_TEXT_READ:,} are read."
        )
    *lines, last = text.strip().split("\n")
    pairs = {key: _unquoted(value.strip()) for key, value in _PAIR.findall(last)}
    if len(pairs) < 3:
        raise PictureError(
            "The picture's `parameters` text has no line of settings (Steps: ..., Sampler: ..., ...)."
        )
    at = next((i for i, line in enumerate(lines) if line.startswith(_NEGATIVE)), len(lines))
    prompt, negative = "\n".join(lines[:at]), "\n".join(lines[at:]).removeprefix(_NEGATIVE)
    digests = {
        name.strip(): digest.strip()
        for name, _, digest in (part.partition(":") for part in pairs.get("Lora hashes", "").split(","))
        if re.fullmatch("[0-9a-f]{12}", digest.strip())
    }
    adapters = _adapters(prompt, digests)
    size = re.fullmatch(r"(\d{1,9})x(\d{1,9})", pairs.get("Size", ""))
    return GenerateRequest(
        prompt=_without_tags(prompt),
        negative_prompt=_without_tags(negative),
        adapters=adapters,
        seed=_seed(pairs),
        steps=int(clamp(_number(pairs, "Steps", 30), *STEPS)),
        guidance=clamp(_number(pairs, "CFG scale", 7.0), *GUIDANCE),
        clip_skip=int(clamp(_number(pairs, "Clip skip", 1), *CLIP_SKIP)),
        width=clamp_size(int(size[1])) if size else None,
        height=clamp_size(int(size[2])) if size else None,
        scheduler=_scheduler(pairs),
    )


def _without_tags(text: str) -> str:
    """The text without `<lora:...>` and the spaces in front of them."""
    parts = _LORA.split(text)[:: _LORA.groups + 1]
    return "".join([*(part.rstrip() for part in parts[:-1]), parts[-1]]).strip()[:MAX_TEXT]


def clamp(value: float, low: float, high: float) -> float:
    """`value`, or the bound it is beyond."""
    return min(max(value, low), high)


def clamp_size(pixels: float) -> int:
    """The nearest size that is allowed: within bounds, a multiple of 8."""
    return int(clamp(pixels, *SIZES)) // 8 * 8


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n]", text) else text


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:  # a value that merely begins with a quotation mark
        return value


def _number(pairs: dict[str, str], key: str, default: float) -> float:
    if key not in pairs:
        return default
    try:
        value = float(pairs[key])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PictureError(
            f"The picture's `parameters` text has {key}: {pairs[key][:40]!r}, which is no number."
        )
    return value


def _seed(pairs: dict[str, str]) -> int | None:
    if "Seed" not in pairs:
        return None
    if not re.fullmatch(r"-?\d{1,20}", pairs["Seed"]):
        raise PictureError(
            f"The picture's `parameters` text has Seed: {pairs['Seed'][:40]!r}, which is no number."
        )
    seed = int(pairs["Seed"])
    return seed if 0 <= seed <= MAX_SEED else None


def _scheduler(pairs: dict[str, str]) -> str | None:
    sampler, kind = pairs.get("Sampler", ""), pairs.get("Schedule type", "")
    if not sampler:
        return None
    suffix = "" if kind in ("", "Automatic", "Uniform", "Normal") else f" {kind}"
    found = scheduler_name(sampler + suffix)
    if found is None:
        warnings.warn(
            f'lorastyle has no scheduler "{(sampler + suffix)[:60]}"; the base\'s own is used. '
            f"There is: {', '.join(SCHEDULERS)}.",
            stacklevel=4,
        )
    return found


def _adapters(prompt: str, digests: dict[str, str]) -> tuple[AdapterUse, ...]:
    """Adapters of `<lora:name:text encoder:unet>` tags; the UNet's scale is kept where there are two."""
    scales: dict[str, float] = {}
    for name, rest in _LORA.findall(prompt):
        named = dict(part.split("=", 1) for part in rest.split(":") if "=" in part)
        plain = [part for part in rest.split(":") if part and "=" not in part]
        written = named.get("unet") or (plain[1:2] or plain[:1] or ["1"])[0]
        try:
            scale = float(written)
        except ValueError:
            scale = math.nan
        if not math.isfinite(scale):
            raise PictureError(
                f"The picture's prompt gives the adapter {name[:60]!r} the scale {written[:40]!r}."
            )
        if name.strip():
            scales[name.strip()] = scales.get(name.strip(), 0.0) + scale
    return tuple(AdapterUse(name, scale, digests.get(lora_name(name))) for name, scale in scales.items())
