"""Adapters in the text of A1111: those that the prompt's tags name, and their hashes behind it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

from lorastyle.errors import shortened

from ..lora_tags import ADAPTER_TAGS
from ..uses import AdapterUse
from .a1111 import lora_name
from .portable import last_part

HASH = re.compile(r"[0-9a-f]{8,64}")


def recorded_uses(
    uses: Iterable[AdapterUse], digests: Mapping[str, str], remarks: list[str]
) -> dict[str, tuple[AdapterUse, str | None]]:
    """{name: (use, hash)} of the tags in a prompt. Names are the last parts of paths, and an adapter that is
    named twice has the sum of the scales, as in A1111.

    Args:
        digests: by the names that A1111 writes.
    """
    found: dict[str, tuple[AdapterUse, str | None]] = {}
    for written in uses:
        use = replace(written, name=last_part(written.name.strip()))
        before = found[use.name][0] if use.name in found else None
        if before is not None:
            if before.options() or use.options():
                remarks.append(f"The adapter {shortened(use.name, 60)} is named twice: the first is used.")
                continue
            use = replace(use, scale=before.scale + use.scale)
        found[use.name] = use, digests.get(lora_name(written.name.strip()))
    return found


def finite(written: str) -> float | None:
    """The number that a text is; None of infinity, and of what is no number."""
    try:
        value = float(written)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_hashes(text: str) -> dict[str, str]:
    """`cat: 0123456789ab, ink: ...`"""
    parts = (part.rpartition(":") for part in text.split(","))
    return {
        name.strip(): digest.strip().lower()
        for name, _, digest in parts
        if HASH.fullmatch(digest.strip().lower())
    }


def read_hashes_table(text: str, remarks: list[str]) -> tuple[dict[str, str], str]:
    """({adapter: hash}, the model's hash) of `Hashes: {"model": "...", "lora:cat": "..."}`, as SD.Next and
    Civitai write it; remarks name what else is in it.
    """
    if not text:
        return {}, ""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        remarks.append("Hashes are no JSON table: left out.")
        return {}, ""
    digests: dict[str, str] = {}
    model, strange = "", list[str]()
    for key, value in cast("dict[str, object]", table).items():
        kind, _, name = key.partition(":")
        digest = value.strip().lower() if isinstance(value, str) else ""
        if kind.strip().lower() in ADAPTER_TAGS and name.strip() and HASH.fullmatch(digest):
            digests[lora_name(name.strip())] = digest
        elif kind.strip().lower() == "model" and HASH.fullmatch(digest):
            model = digest
        elif digest or not isinstance(value, str):
            strange.append(shortened(key, 40))
    if strange:
        more = ", ..." * (len(strange) > 5)
        remarks.append(f"Hashes that are not used: {', '.join(strange[:5])}{more}.")
    return digests, model
