"""A request without anything that tells where it was made: names, never the paths of somebody's disk."""

from __future__ import annotations

import os
import re
from dataclasses import replace

from ..request import AdapterUse, GenerateRequest

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w.-]+(/[\w.-]+)*)?")
_SUFFIX = ".safetensors"


def portable_request(request: GenerateRequest) -> GenerateRequest:
    """What a picture records of `request`: adapters by the stem of their file, the base, `init` and `mask` by
    their last part. A Hub id is a name already.

    Adapters of the same stem are told apart by a number; their hashes say which is which.
    """
    return replace(
        request,
        adapters=_adapters(request.adapters),
        base=request.base and base_name(request.base),
        init=request.init and last_part(request.init),
        mask=request.mask and last_part(request.mask),
    )


def last_part(path: str) -> str:
    """`/home/me/cat.png` and `C:\\me\\cat.png` -> `cat.png`."""
    parts = [part for part in re.split(r"[\\/]", path) if part.strip() and part not in (".", "..", "~")]
    return parts[-1] if parts else "unnamed"


def adapter_name(name: str) -> str:
    """The name of an adapter's file without its folder and ending."""
    return last_part(name).removesuffix(_SUFFIX) or "unnamed"


def base_name(base: str) -> str:
    """A Hub id as it is; of anything that lies on a disk, the last part."""
    return base if is_hub_id(base) and not os.path.exists(base) else last_part(base)


def is_hub_id(base: str) -> bool:
    """`org/model` or `org/model@revision`, as far as the letters tell; a revision has no way up in it."""
    if _HUB_ID.fullmatch(base) is None or base.lower().endswith(_SUFFIX):
        return False
    return ".." not in base.partition("@")[2].split("/")


def _adapters(uses: tuple[AdapterUse, ...]) -> tuple[AdapterUse, ...]:
    taken: set[str] = set()
    named: list[AdapterUse] = []
    for use in uses:
        stem = name = adapter_name(use.name)
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        named.append(replace(use, name=name))
    return tuple(named)
