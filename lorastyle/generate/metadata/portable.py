"""A request without anything that tells where it was made: names, never the paths of somebody's disk."""

from __future__ import annotations

import os
import re
from dataclasses import replace

from lorastyle.hub import HubAdapter, split_hub_id

from ..request import AdapterUse, GenerateRequest

_SUFFIX = ".safetensors"


def portable_request(request: GenerateRequest) -> GenerateRequest:
    """What a picture records of `request`: adapters by the stem of their file, the base, `init` and masks by
    their last part. A name of the Hub's is one already.

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
    return base if split_hub_id(base) and not os.path.exists(base) else last_part(base)


def _portable_mask(use: AdapterUse) -> str | None:
    region = use.region
    if region is None or region.picture is None:
        return use.mask
    return str(replace(region, picture=last_part(region.picture)))


def _adapters(uses: tuple[AdapterUse, ...]) -> tuple[AdapterUse, ...]:
    taken: set[str] = set()
    named: list[AdapterUse] = []
    for use in uses:
        on_hub = use.file is None and HubAdapter.parse(use.name) is not None and not os.path.exists(use.name)
        stem = name = use.name if on_hub else adapter_name(use.name)
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        named.append(replace(use, name=name, mask=_portable_mask(use), file=None))
    return tuple(named)
