"""The alpha that a JSON copy of peft's `LoraConfig` gives a module."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import cast

from lorastyle.errors import AdapterFileError


@lru_cache(maxsize=4)
def parse_config(text: str, where: str) -> Mapping[str, object]:
    """The JSON object in `text`, which `where` holds.

    Raises:
        AdapterFileError: it is none.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterFileError(f"{where} is not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise AdapterFileError(f"{where} is not a JSON object.")
    return cast("dict[str, object]", content)


def config_alpha(settings: Mapping[str, object], paths: Sequence[str], rank: int, where: str) -> float:
    """`lora_alpha`, or what `alpha_pattern` says of this module; times sqrt(rank) for rank-stabilised LoRA,
    whose scale is alpha / sqrt(rank) (Kalajdzievski 2023, arXiv:2312.03732).

    Args:
        paths: what the module may be called.

    Raises:
        AdapterFileError: it is no number, or the patterns are regular expressions.
    """
    alpha = settings.get("lora_alpha", rank)
    patterns = settings.get("alpha_pattern") or {}
    if isinstance(patterns, dict):
        for pattern, value in cast("dict[str, object]", patterns).items():
            if any(_covers(pattern, path, where) for path in paths):
                alpha = value
                break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise AdapterFileError(f"{where} gives {paths[0]} the alpha {alpha!r}; a number is needed.")
    return alpha * math.sqrt(rank) if settings.get("use_rslora") is True else float(alpha)


def _covers(pattern: str, path: str, where: str) -> bool:
    """Whether peft's `(.*\\.)?(pattern)$` matches. Only literal names: a stranger's regex is not run."""
    literal = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
    if not re.fullmatch(r"[\w.\-]+", literal):
        raise AdapterFileError(f"{where} holds the alpha pattern {pattern!r}; only module names are read.")
    return path == literal or (not pattern.startswith("^") and path.endswith(f".{literal}"))
