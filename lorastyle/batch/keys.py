"""The words of a manifest item: the fields of `GenerateRequest`, and some that read better by hand.

size: 128x96        width and height; 128 is a square
negative: dark      negative_prompt
name: cats/{seed}   the file's name; see `names.py`
adapters: {cat: 0.8, ink: 0.5}, or "cat:0.8, ink:0.5", or ["cat:0.8"]
adapters.cat: 0.8   the scale of one of them, the others as they are
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import cast

from lorastyle.errors import ConfigError, near_miss, shortened
from lorastyle.generate import AdapterUse, GenerateRequest

FIELDS = tuple(field.name for field in fields(GenerateRequest))
KEYS = (*FIELDS, "negative", "size", "name")
ONE_ADAPTER = "adapters."
NUMBERS = frozenset(
    {
        *("seed", "steps", "guidance", "guidance_rescale", "width", "height", "size", "strength"),
        *("hires", "hires_strength", "clip_skip"),
    }
)
"""Keys whose value may be a range."""
SWITCHES = frozenset(field.name for field in fields(GenerateRequest) if isinstance(field.default, bool))
"""Keys whose value is true or false."""
_SIZE = re.compile(r"\s*(\d{1,6})(?:\s*[xX]\s*(\d{1,6}))?\s*")
_EXCLUSIVE = {
    "size": ("width", "height"),
    "width": ("size",),
    "height": ("size",),
    "negative": ("negative_prompt",),
    "negative_prompt": ("negative",),
}


def is_key(key: str) -> bool:
    """Whether an item may have it."""
    return key in KEYS or (key.startswith(ONE_ADAPTER) and len(key) > len(ONE_ADAPTER))


def unknown(key: str) -> str:
    """The sentence about a key that no item has."""
    advice = near_miss(key[:100], KEYS) or f" Allowed are {', '.join(KEYS)}."
    return f"unknown key {shortened(key)}.{advice}"


def takes_ranges(key: str) -> bool:
    """Whether `0:1:0.25` stands for several values there."""
    return key in NUMBERS or key.startswith(ONE_ADAPTER)


def over(lower: Mapping[str, object], upper: Mapping[str, object]) -> dict[str, object]:
    """`upper` laid over `lower`: `size` replaces `width` and `height`, `adapters` replaces `adapters.cat`."""
    gone = {other for key in upper for other in _EXCLUSIVE.get(key, ())}
    if "adapters" in upper:
        gone |= {key for key in lower if key.startswith(ONE_ADAPTER)}
    return {**{key: value for key, value in lower.items() if key not in gone}, **upper}


def to_fields(item: Mapping[str, object]) -> dict[str, object]:
    """An item in the words of `GenerateRequest.from_dict`; a value of None is one that is not given.

    Raises:
        ConfigError: two words for one thing, or a size that is none.
    """
    values = {key: value for key, value in item.items() if value is not None and key != "name"}
    for key, others in _EXCLUSIVE.items():
        for other in others:
            if key in ("size", "negative") and key in values and other in values:
                raise ConfigError(f"{key} and {other} are both given; they say the same. Keep one.")
    if "negative" in values:
        values["negative_prompt"] = values.pop("negative")
    if "size" in values:
        values["width"], values["height"] = _size(values.pop("size"))
    single = {
        key.removeprefix(ONE_ADAPTER): values.pop(key) for key in list(values) if key.startswith(ONE_ADAPTER)
    }
    if "adapters" in values or single:
        values["adapters"] = _with_scales(adapter_list(values.get("adapters", ())), single)
    return values


def adapter_list(value: object) -> list[object]:
    """The adapters as `GenerateRequest.from_dict` takes them, from any of their forms."""
    if isinstance(value, Mapping):
        return [{"name": n, "scale": s} for n, s in cast("Mapping[str, object]", value).items()]
    if isinstance(value, str):
        return [
            part.strip() for part in re.split(r"[,;|\n]", value) if part.strip().lower() not in ("", "none")
        ]
    if isinstance(value, (list, tuple)):
        return list(cast("list[object]", value))
    raise ConfigError(
        f'adapters is {shortened(value)}; write {{cat: 0.8, ink: 0.5}}, "cat:0.8, ink:0.5" or a list.'
    )


def _with_scales(uses: list[object], scales: Mapping[str, object]) -> list[object]:
    left = dict(scales)
    result: list[object] = []
    for use in uses:
        name = adapter_name(use)
        if name is not None and name in left:
            table = use if isinstance(use, Mapping) else AdapterUse.parse(str(use)).to_dict()
            use = {**cast("Mapping[str, object]", table), "scale": left.pop(name)}
        result.append(use)
    return [*result, *({"name": name, "scale": scale} for name, scale in left.items())]


def adapter_name(use: object) -> str | None:
    """The name in one of `adapter_list`'s; None where it has none."""
    if isinstance(use, Mapping):
        name = cast("Mapping[str, object]", use).get("name")
        return name if isinstance(name, str) else None
    return AdapterUse.parse(use).name if isinstance(use, str) and use.strip() else None


def scale_of(item: Mapping[str, object], name: str) -> object:
    """The scale that an item gives an adapter, as written; None where it does not have it."""
    if ONE_ADAPTER + name in item:
        return item[ONE_ADAPTER + name]
    uses = item.get("adapters", ())
    for use in adapter_list(uses) if isinstance(uses, (Mapping, str, list, tuple)) else ():
        if adapter_name(use) == name:
            if isinstance(use, Mapping):
                return cast("Mapping[str, object]", use).get("scale", 1)
            return AdapterUse.parse(str(use)).scale
    return None


def _size(value: object) -> tuple[int, int]:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ConfigError(f"size is {shortened(value)}; WIDTHxHEIGHT in pixels is needed, such as 128x96.")
    return int(found[1]), int(found[2] or found[1])
