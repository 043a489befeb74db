"""Adapters that settings name beside the prompt: Additional Networks, Fooocus, SD.Next and Civitai."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import cast

from lorastyle.errors import shortened

from ..uses import AdapterUse
from .a1111 import lora_name
from .portable import adapter_name
from .recorded import as_table
from .tags import HASH, finite

# Source: kohya-ss/sd-webui-additional-networks, infotext_fields.
_ADDNET = re.compile(r"AddNet (?:Enabled|Separate Weights|(?:Module|Model|Weight|Weight A|Weight B) \d{1,2})")
_ADDNET_MODEL = re.compile(r"(.+?)\s*\(([0-9A-Fa-f]{8,64})\)")
_MOST_ADDNET = 32
_NETWORKS = "LoRA networks"  # SD.Next's, whose "LoRA hashes" are in the same order and without names
_WEIGHTS = "Lora weights"  # Fooocus'
_CIVITAI = "Civitai resources"
_IN_THE_MODEL = ("checkpoint", "model")


@dataclass
class Fields:
    """What settings say of adapters.

    Attributes:
        uses: each with its hash, where it is known.
        digests: hashes, by the names that A1111 writes, of adapters that the prompt names.
        remarks: a sentence for what cannot be used.
    """

    uses: list[tuple[AdapterUse, str | None]] = field(default_factory=list[tuple[AdapterUse, "str | None"]])
    digests: dict[str, str] = field(default_factory=dict[str, str])
    remarks: list[str] = field(default_factory=list[str])


def is_adapter_field(key: str) -> bool:
    """Whether `read_adapter_fields` reads it."""
    return key in (_NETWORKS, _WEIGHTS, _CIVITAI) or bool(_ADDNET.fullmatch(key))


def read_adapter_fields(
    pairs: Mapping[str, str], digests: Mapping[str, str], tagged: Collection[str]
) -> Fields:
    """The adapters of settings.

    Args:
        pairs: settings by name.
        digests: hashes that are known by name.
        tagged: the names in the prompt's tags, which say the scales.
    """
    found = Fields()
    known = {lora_name(name) for name in tagged}
    _additional_networks(pairs, found)
    for name, written in _listed(pairs.get(_WEIGHTS, "")):
        scale = finite(written)
        if lora_name(name) in known:
            continue
        if scale is None:
            found.remarks.append(
                f"The adapter {shortened(name, 60)} has the weight {shortened(written, 20)}: left out."
            )
        else:
            plain = adapter_name(name)
            found.uses.append((AdapterUse(plain, scale), digests.get(lora_name(name))))
    _sdnext(pairs, known, found)
    _civitai(pairs.get(_CIVITAI, ""), known | {lora_name(use.name) for use, _ in found.uses}, found)
    return found


def _additional_networks(pairs: Mapping[str, str], found: Fields) -> None:
    if pairs.get("AddNet Enabled", "True").lower() == "false":
        return
    for number in range(1, _MOST_ADDNET + 1):
        model = pairs.get(f"AddNet Model {number}", "None")
        if model == "None":
            continue
        named = _ADDNET_MODEL.fullmatch(model)
        name, digest = (named[1], named[2].lower()) if named else (model, None)
        name = adapter_name(name)
        both = pairs.get(f"AddNet Weight {number}", "1")
        unet = finite(pairs.get(f"AddNet Weight A {number}", both))
        te = finite(pairs.get(f"AddNet Weight B {number}", both))
        if pairs.get(f"AddNet Module {number}", "LoRA") != "LoRA" or unet is None or te is None:
            found.remarks.append(f"AddNet Model {number}, {shortened(name, 60)}, cannot be read: left out.")
        else:
            found.uses.append((AdapterUse(name, unet, te=None if te == unet else te), digest))


def _sdnext(pairs: Mapping[str, str], known: Collection[str], found: Fields) -> None:
    names = [lora_name(name.strip()) for name in pairs.get(_NETWORKS, "").split(",") if name.strip()]
    hashes = [digest.strip().lower() for digest in pairs.get("Lora hashes", "").split(",")]
    if len(names) == len(hashes) and all(HASH.fullmatch(digest) for digest in hashes):
        found.digests = dict(zip(names, hashes, strict=True))
    missing = [name for name in names if name not in known and name not in found.digests]
    if missing:
        named = ", ".join(shortened(name, 40) for name in missing[:5]) + ", ..." * (len(missing) > 5)
        found.remarks.append(f"{_NETWORKS} are {named}, and no tag says at which scale: left out.")


def _civitai(text: str, known: Collection[str], found: Fields) -> None:
    """Resources by the names that they have on Civitai, which are not those of files: they are only said."""
    try:
        entries = json.loads(text) if text else []
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        found.remarks.append(f"{_CIVITAI} cannot be read: left out.")
        return
    strange: list[str] = []
    for entry in cast("list[object]", entries):
        table = as_table(entry) or {}
        kind = str(table.get("type") or _kind_of(table.get("air"))).lower()
        name = table.get("modelName") or table.get("air") or table.get("modelVersionId")
        if kind not in _IN_THE_MODEL and (not isinstance(name, str) or lora_name(name) not in known):
            weight = table.get("weight")
            told = f" at {shortened(weight, 20)}" if isinstance(weight, (int, float)) else ""
            strange.append(f"{shortened(name, 40)} ({shortened(kind, 20)[1:-1] or 'resource'}{told})")
    if strange:
        more = ", ..." * (len(strange) > 5)
        found.remarks.append(
            "It names resources of Civitai, which have no file names to look for: "
            f"{', '.join(strange[:5])}{more}. Name their files with -a."
        )


def _kind_of(air: object) -> str:
    """`urn:air:sdxl:lora:civitai:122359@135867` -> `lora`."""
    parts = air.split(":") if isinstance(air, str) else []
    return parts[3] if len(parts) > 3 else ""


def _listed(text: str) -> list[tuple[str, str]]:
    """`cat: 0.5, ink: 1.0`"""
    parts = (part.rpartition(":") for part in text.split(","))
    return [(name.strip(), value.strip()) for name, _, value in parts if name.strip()]
