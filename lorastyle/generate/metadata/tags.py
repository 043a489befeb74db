"""Adapters in the text of A1111: `<lora:name:scale>` in the prompt, and `Lora hashes` behind it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from lorastyle.errors import PictureError, shortened

from .a1111 import lora_name
from .portable import last_part

_TAG = re.compile(r"<(lora|lyco|hypernet):([^:<>]{1,500})((?::[^:<>]{0,100}){0,8})>")
HASH = re.compile(r"[0-9a-f]{8,64}")


def read_tags(
    prompt: str, digests: Mapping[str, str], remarks: list[str]
) -> dict[str, tuple[float, str | None]]:
    """{name: (scale, hash)} of `<lora:name:text encoder:unet>` tags."""
    uses: dict[str, tuple[float, str | None]] = {}
    for kind, written_name, rest in _TAG.findall(prompt):
        name = written_name.strip() and last_part(written_name.strip())
        if kind == "hypernet":
            remarks.append(f"The hypernetwork {shortened(name, 60)} is left out: there are none here.")
            continue
        named = dict(part.split("=", 1) for part in rest.split(":") if "=" in part)
        plain = [part for part in rest.split(":") if part and "=" not in part]
        text = named.get("te") or (plain[:1] or ["1"])[0]
        unet = named.get("unet") or (plain[1:2] or [text])[0]
        scale = _scale(name, unet)
        if _scale(name, text) != scale:
            remarks.append(
                f"The adapter {shortened(name, 60)} has the scale {shortened(text, 20)} on the text encoder "
                f"and {shortened(unet, 20)} on the UNet: the latter is used for both."
            )
        if name:
            uses[name] = uses.get(name, (0.0, None))[0] + scale, digests.get(lora_name(written_name.strip()))
    return uses


def _scale(name: str, written: str) -> float:
    scale = finite(written)
    if scale is None:
        raise PictureError(
            f"its prompt gives the adapter {shortened(name, 60)} the scale {shortened(written, 40)}."
        )
    return scale


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


def without_tags(text: str) -> str:
    """The text without `<lora:...>` and the spaces in front of them."""
    parts = _TAG.split(text)[:: _TAG.groups + 1]
    return "".join([*(part.rstrip() for part in parts[:-1]), parts[-1]]).strip()
