"""The strength that a copy of peft's configuration gives a module: alpha / rank, or by its patterns."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import cast

from lorastyle.errors import AdapterFileError

ALPHAS = ("lora_alpha", "network_alpha", "alpha")
"""What an alpha is called: by peft for LoRA, by some trainers, and by peft for LoHa and LoKr."""
RANKS = ("r", "rank", "lora_rank", "network_dim")


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


def config_rank(settings: Mapping[str, object], paths: Sequence[str], where: str) -> int | None:
    """The rank that a configuration says of a module; None where it says none that can be read.

    Args:
        paths: what the module may be called.
    """
    try:
        value = _pattern(settings, "rank_pattern", paths, where)
    except AdapterFileError:  # nothing needs it: the factors have the rank that they have
        return None
    if value is None:
        value = next((settings[name] for name in RANKS if settings.get(name) is not None), None)
    number = _number(value)
    return int(number) if number is not None and number >= 1 else None


def config_alpha(
    settings: Mapping[str, object], paths: Sequence[str], rank: int | None, where: str
) -> float | None:
    """The alpha that a configuration says of a module, times sqrt(rank) for rank-stabilised LoRA, whose
    strength is alpha / sqrt(rank) (Kalajdzievski 2023, arXiv:2312.03732). None where it says no alpha.

    Args:
        paths: what the module may be called.
        rank: of its factors. None is a Kronecker product of two whole matrices, which has no rank: then the
            strength itself is the answer.

    Raises:
        AdapterFileError: it is no number, or the patterns are regular expressions.
    """
    alpha = _pattern(settings, "alpha_pattern", paths, where)
    if alpha is None:
        alpha = next((settings[name] for name in ALPHAS if settings.get(name) is not None), None)
    if alpha is None:
        return None
    number, stated = _number(alpha), config_rank(settings, paths, where)
    stable = settings.get("use_rslora") is True
    if number is None:
        raise AdapterFileError(f"{where} gives {paths[0]} the alpha {alpha!r}; a number is needed.")
    if rank is None:  # the strength is asked for, and needs the rank that is stated
        return None if stated is None else number / (math.sqrt(stated) if stable else stated)
    return number * math.sqrt(rank) if stable else number


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _pattern(settings: Mapping[str, object], name: str, paths: Sequence[str], where: str) -> object:
    patterns = settings.get(name) or {}
    if isinstance(patterns, dict):
        for pattern, value in cast("dict[str, object]", patterns).items():
            if any(_covers(pattern, path, name, where) for path in paths):
                return value
    return None


def _covers(pattern: str, path: str, name: str, where: str) -> bool:
    """Whether peft's `(.*\\.)?(pattern)$` matches. Only literal names: a stranger's regex is not run."""
    literal = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
    if not re.fullmatch(r"[\w.\-]+", literal):
        what = name.replace("_", " ")
        raise AdapterFileError(f"{where} holds the {what} {pattern!r}; only module names are read.")
    dot = "."
    if "." not in path:  # a name of kohya's, whose dots are not known
        literal, dot = literal.replace(".", "_"), "_"
    return path == literal or (not pattern.startswith("^") and path.endswith(f"{dot}{literal}"))
