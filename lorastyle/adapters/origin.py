"""What an adapter was made of, where it was not trained: other adapters, or the difference of two models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

MERGED_FROM = "lorastyle.merged_from"
"""The key of what an adapter was merged from, as JSON."""
EXTRACTED_FROM = "lorastyle.extracted_from"
"""The key of which models an adapter is the difference of, as JSON."""


def origin_lines(metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(label, text) of what the metadata record; nothing of a record that cannot be read."""
    if merged := _table(metadata.get(MERGED_FROM)):
        parts = [_part(part) for part in _tables(merged.get("adapters"))]
        if parts:
            more = [f"by {merged.get('method')}", *_numbers(merged, ("density", "seed")), *_error(merged)]
            yield "merged from", f"{' + '.join(parts)}, {', '.join(more)}"
    if extracted := _table(metadata.get(EXTRACTED_FROM)):
        if {"tuned", "base"} <= extracted.keys():
            told = [f"{extracted['tuned']} less {extracted['base']}", *_error(extracted)]
            yield "extracted from", ", ".join(told)


def _part(part: Mapping[str, Any]) -> str:
    """As the command line names it: `ink:0.8`, with the first digits of its hash."""
    scale, blocks, digest = part.get("scale"), part.get("blocks"), part.get("hash")
    text = f"{part.get('name')}:{scale:g}" if isinstance(scale, (int, float)) else str(part.get("name"))
    text += "".join(
        f":{own}={part[own]:g}" for own in ("te", "unet") if isinstance(part.get(own), (int, float))
    )
    text += f" on {blocks}" if blocks else ""
    return text + (f" ({digest[:12]})" if isinstance(digest, str) else "")


def _numbers(table: Mapping[str, Any], keys: tuple[str, ...]) -> list[str]:
    return [f"{key} {table[key]:g}" for key in keys if isinstance(table.get(key), (int, float))]


def _error(table: Mapping[str, Any]) -> list[str]:
    error = table.get("relative_error")
    return [f"{error:.1%} of the norm left out"] if isinstance(error, (int, float)) and error > 0 else []


def _table(text: str | None) -> dict[str, Any]:
    try:
        found: object = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _tables(found: object) -> list[dict[str, Any]]:
    items = cast("list[object]", found) if isinstance(found, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]
