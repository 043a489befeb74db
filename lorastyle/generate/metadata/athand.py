"""Which of the adapters, the base and the pictures that a picture names are on this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from lorastyle.adapters import file_hash
from lorastyle.bases import default_base, needs_download
from lorastyle.errors import shortened
from lorastyle.hub import HubAdapter, split_hub_id

from ..known import known_as
from ..request import AdapterUse
from .containers import Source
from .portable import adapter_name, base_name, last_part
from .recorded import Recorded

_MOST_BYTES = 500_000_000  # of a picture to start from


def at_hand(
    recorded: Recorded, source: Source, changes: Mapping[str, object], base: str | None, keep_missing: bool
) -> tuple[dict[str, object], list[str]]:
    """Values for `GenerateRequest.from_dict`; a remark for all that is missing or goes by another name."""
    request, remarks = recorded.request, list[str]()
    values: dict[str, object] = request.to_dict()
    if recorded.strength is not None:
        values["strength"] = recorded.strength
    if "adapters" not in changes:
        uses = [_with_mask(use, source, keep_missing, remarks) for use in request.adapters]
        values["adapters"] = _adapters(uses, recorded.digests, keep_missing, remarks)
    if "base" not in changes:
        values["base"] = _base(request.base, recorded.model, base, keep_missing, remarks)
    if "base" in changes or not _same(values.get("base"), request.base, recorded.model):
        values.pop("base_hash", None)
    for key in ("init", "mask"):
        if key not in changes and (name := cast("str | None", values.get(key))):
            what = "It started from the picture" if key == "init" else "It was drawn inside of the mask"
            digest = values.get(f"{key}_hash")
            values[key] = _picture(what, key, name, digest, source, keep_missing, remarks)
        if values.get(key) is None or key in changes:
            values.pop(f"{key}_hash", None)
    values |= changes
    if values.get("init") is None:
        if (strength := values.get("strength")) is not None and "strength" not in changes:
            remarks.append(
                f"It started from another picture, of which {strength:g} was drawn anew: name it with init, "
                "or this one starts from noise."
            )
            values["strength"] = None
        if "mask" not in changes:
            values["mask"] = values["mask_hash"] = None
    if recorded.foreign and values.get("seed") is not None:
        remarks.append(
            "Another tool drew it, and takes its noise from elsewhere: the same seed is not the same picture."
        )
    return values, remarks


def _with_mask(use: AdapterUse, source: Source, keep_missing: bool, remarks: list[str]) -> AdapterUse:
    region = use.region
    if region is None or region.picture is None:
        return use
    what = f"The adapter {shortened(use.name)} was confined to the mask"
    found = _picture(what, "mask=", region.picture, use.mask_hash, source, keep_missing, remarks)
    if found is None:
        return replace(use, mask=None, mask_hash=None)
    return replace(use, mask=str(replace(region, picture=found)))


def _adapters(
    uses: Sequence[AdapterUse], digests: Mapping[str, str], keep_missing: bool, remarks: list[str]
) -> list[AdapterUse]:
    found: dict[str, AdapterUse] = {}
    for use in uses:
        digest = digests.get(use.name) or use.hash
        here = known_as(use.name, digest)
        if here is None:
            what = f"The adapter {shortened(use.name)}{f' (weights {digest})' if digest else ''}"
            where = "in the local cache of the Hub" if HubAdapter.parse(use.name) else "in the library"
            remarks.append(f"{what} is not {where}" + ("." if keep_missing else ": left out."))
            if keep_missing:
                found[use.name] = use
            continue
        if digest and not here.same:
            remarks.append(
                f"The adapter {shortened(use.name)} has other weights here ({here.hash}, the picture's has "
                f"{digest}): the picture will differ."
            )
        elif here.name != use.name:
            remarks.append(f"The adapter {shortened(use.name)} is called {shortened(here.name)} here.")
        before = found[here.name].scale if here.name in found else 0.0
        found[here.name] = replace(use, name=here.name, scale=before + use.scale, hash=here.hash)
    return list(found.values())


def _base(
    recorded: str | None, model: str | None, loaded: str | None, keep_missing: bool, remarks: list[str]
) -> str | None:
    """The base to draw with; None is the default one."""
    wanted = recorded or model
    if wanted is None:
        return loaded
    ready = loaded or default_base()
    if _same(ready, recorded, model):
        return ready
    if loaded is not None:
        remarks.append(
            f"It was drawn with the base {shortened(wanted)}; here {shortened(base_name(loaded))} draws."
        )
        return loaded
    if recorded and split_hub_id(recorded) and not os.path.exists(recorded):
        if not needs_download(recorded):
            return recorded
        # what a stranger's picture says must not fetch gigabytes
        told = f"It was drawn with the base {shortened(wanted)}, which is not in the local cache"
        remarks.append(told + (": name it with base to fetch it." if keep_missing else ": left out."))
        return recorded if keep_missing else None
    if wanted == "embedded" or (recorded and os.path.exists(recorded)):
        return wanted
    remarks.append(
        f"It was drawn with the base {shortened(wanted)}, which is not at hand: name it with base, or "
        f"{shortened(base_name(ready))} draws."
    )
    return None


def _same(here: object, recorded: str | None, model: str | None) -> bool:
    """Whether a base of this machine has the name that the picture says; its weights may differ."""
    if not isinstance(here, str):
        return False
    name = base_name(here)
    return name == recorded or (model is not None and _stem(model) == _stem(name))


def _stem(name: str) -> str:
    """`Dream_v8.safetensors`, `dream_v8 (879db523c3)` -> `dream_v8`, for comparing names of models."""
    return adapter_name(last_part(name).partition(" (")[0]).lower()


def _picture(
    what: str,
    key: str,
    name: str,
    digest: object,
    source: Source,
    keep_missing: bool,
    remarks: list[str],
) -> str | None:
    """The path of the very file: beside the picture, or here. A name alone would let a stranger's picture
    point at anything.

    Args:
        what, key: how a remark begins, and what to name it with, where it is not there.
    """
    folders = [Path()] if not isinstance(source, (str, os.PathLike)) else [Path(source).parent, Path()]
    for folder in folders:
        path = folder / last_part(name)
        if isinstance(digest, str) and _sha256(path).startswith(digest):
            return str(path)
    recorded = f" ({digest})" if digest else ""
    remarks.append(f"{what} {shortened(name)}{recorded}, which is not here: name it with {key}.")
    return name if keep_missing else None


def _sha256(path: Path) -> str:
    """In hex digits; of what is no ordinary file, or cannot be read, none."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > _MOST_BYTES:
            return ""
        return file_hash(path)
    except (OSError, ValueError):
        return ""
