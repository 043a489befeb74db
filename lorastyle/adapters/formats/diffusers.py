"""Dotted names as diffusers writes them: `unet.<path>.lora_A.weight`, `unet.<path>.lora.down.weight`.

One file may mix both spellings, so every key is taken by itself. There is no alpha tensor: alpha equals the
rank, unless the `lora_adapter_metadata` of newer files says otherwise.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import cast

from lorastyle.errors import AdapterFileError

from .naming import COMPONENTS, Format, Role, TensorName, with_text_model

# `lora_A.<adapter>.weight` keeps the name that the adapter had in memory.
_SUFFIXES: tuple[tuple[str, Role, str], ...] = (
    (r"\.(lora_A(\.[^.]+)?|lora(_linear_layer)?\.down|lora_down)\.weight$", "down", ""),
    (r"\.(lora_B(\.[^.]+)?|lora(_linear_layer)?\.up|lora_up)\.weight$", "up", ""),
    (r"\.alpha$", "alpha", ""),
    (r"\.lora_magnitude_vector(\.[^.]+)?(\.weight)?$", "unsupported", "DoRA"),
    (r"\.dora_scale$", "unsupported", "DoRA"),
    (r"\.lora_[AB](\.[^.]+)?\.bias$", "unsupported", "LoRA with bias"),
)
_METADATA_KEY = "lora_adapter_metadata"


def _parse(key: str) -> TensorName | None:
    component = next((c for c in reversed(COMPONENTS) if key.startswith(f"{c}.")), None)
    if component is None:
        return None
    for pattern, role, detail in _SUFFIXES:
        if found := re.search(pattern, key):
            return TensorName(component, key[: found.start()], role, detail)
    return None


def _spellings(component: str, path: str) -> tuple[str, ...]:
    if component == "unet":
        return (f"unet.{path}",)
    full = with_text_model(path)
    return tuple(dict.fromkeys(f"{component}.{p}" for p in (full, full.removeprefix("text_model."))))


def _alpha(component: str, path: str, rank: int, metadata: Mapping[str, str]) -> float:
    if not (text := metadata.get(_METADATA_KEY)):
        return float(rank)
    settings = _settings(text, component)
    alpha = settings.get("lora_alpha", rank)
    patterns = settings.get("alpha_pattern") or {}
    if isinstance(patterns, dict):
        for pattern, value in cast("dict[str, object]", patterns).items():
            if _covers(pattern, path):
                alpha = value
                break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise AdapterFileError(f"{_METADATA_KEY} gives {path} the alpha {alpha!r}; a number is needed.")
    # rank-stabilised LoRA scales by alpha / sqrt(rank) (Kalajdzievski 2023, arXiv:2312.03732)
    return alpha * math.sqrt(rank) if settings.get("use_rslora") is True else float(alpha)


def _settings(text: str, component: str) -> dict[str, object]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterFileError(f"{_METADATA_KEY} is not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise AdapterFileError(f"{_METADATA_KEY} is not a JSON object.")
    prefix = f"{component}."
    everything = cast("dict[str, object]", content)
    return {key[len(prefix) :]: value for key, value in everything.items() if key.startswith(prefix)}


def _covers(pattern: str, path: str) -> bool:
    """Whether peft's `(.*\\.)?(pattern)$` matches. Only literal names: a stranger's regex is not run."""
    literal = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
    if not re.fullmatch(r"[\w.\-]+", literal):
        raise AdapterFileError(
            f"{_METADATA_KEY} holds the alpha pattern {pattern!r}; only module names are read."
        )
    return path == literal or (not pattern.startswith("^") and path.endswith(f".{literal}"))


FORMAT = Format("diffusers", _parse, _spellings, _alpha)
