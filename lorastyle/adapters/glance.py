"""The few words about a file that a list of thousands needs, ten times as fast as `read_info`.

Most of a header is the places of some thousand tensors. Where it is written as the safetensors library writes
it, what a list needs of them is found by searching the text, and only the metadata are parsed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lorastyle.errors import AdapterFileError, BaseMismatchError, is_unicode

from .families import Witnesses, sdxl_names, tell_family
from .formats import parse_name
from .header import MAX_HEADER_BYTES, MAX_MARKS, read_header
from .info import read_info

_KEY = '"__metadata__":'
_START = "{" + _KEY
# Each begins with plain letters, which makes searching ten times as fast.
_NAME = re.compile(r'"([^"\\]+)":\{"dtype":')
_RANK = r'":\{"dtype":"\w+","shape":\[(\d+)[],]'
_DOWN, *_PEFT_DOWN = (
    re.compile(re.escape(end) + _RANK) for end in ("down.weight", "lora_A.weight", "lora_A.default.weight")
)
_READS_TEXT = re.compile(
    r'attn2[._]to_k(?:\.lora_A|\.lora_A\.default|[._a-z]*down)\.weight":\{"dtype":"\w+","shape":\[\d+,(\d+)[],]'
)
# How the names of nearly all files begin; what a UNet has in them; and what Stable Diffusion 1.x, 2.x and XL
# have not.
_STARTS = ("lora_unet_", "unet.", "lora_te", "text_encoder.", "text_encoder_2.", "bundle_emb.")
_UNET = ("down_blocks", "input_blocks", "up_blocks", "output_blocks", "mid_block", "middle_block")
_ODD = ("motion", "temp", "query_key", "te3_", ",5632")


@dataclass(frozen=True)
class Glance:
    """What a list says of a file. `problem` is why it cannot be used; the rest is empty then.

    `hash` is the weights' sha256 as the header states it, unchecked, or "".
    """

    family: str | None = None
    trigger: str = ""
    ranks: tuple[int, ...] = ()
    hash: str = ""
    tags: tuple[str, ...] = ()
    problem: str = ""


def glance(path: str | os.PathLike[str]) -> Glance:
    """Look at the header of the adapter file at `path`. It says of the base what `read_info` says.

    Of the tensors only that there are such of an adapter, and that one ends where the data ends. Whatever is
    other than expected is left to `read_info`, whose reason is told without the path.
    """
    path = Path(path)
    try:
        found = _look(path)
        if found is None:
            info = read_info(path)  # most often it raises: it knows the reasons
            found = Glance(
                info.family,
                info.trigger or "",
                tuple(sorted(info.ranks)),
                info.hashes.get("sshs_model_hash", ""),
                _tags(read_header(path).metadata),
            )
        return found
    except (AdapterFileError, BaseMismatchError) as error:
        return Glance(problem=error.reason or str(error))


def _look(path: Path) -> Glance | None:
    """None where anything is other than expected."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, MAX_HEADER_BYTES):
                return None
            text = file.read(length).decode("utf-8")
        if length > MAX_MARKS and text.count(",") > MAX_MARKS:
            return None
        metadata, end = {}, 0
        if text.startswith(_START):
            metadata, end = json.JSONDecoder().raw_decode(text, len(_START))
        elif _KEY in text:
            return None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(metadata, dict):
        return None
    texts = cast("dict[str, object]", metadata).items()
    if not all(isinstance(value, str) and is_unicode(key) and is_unicode(value) for key, value in texts):
        return None
    return _told(cast("dict[str, str]", metadata), text[end:], size - 8 - length)


def _told(metadata: Mapping[str, str], tensors: str, data_bytes: int) -> Glance | None:
    whole = f",{data_bytes}]}}" in tensors and tensors.rstrip(" ").endswith("}}")
    if not whole or not any(parse_name(name[1]) for name in _NAME.finditer(tensors)):
        return None
    searches = (_DOWN, *(_PEFT_DOWN if "lora_A" in tensors else ()))
    ranks = {int(rank) for search in searches for rank in search.findall(tensors)}
    widths = {int(width) for width in _READS_TEXT.findall(tensors)}
    width = widths.pop() if len(widths) == 1 else None
    if not _is_plain(tensors):  # perhaps of another architecture, which takes a longer look
        return None
    second_encoder, deep = sdxl_names(tensors)
    family, *_ = tell_family(metadata, Witnesses(None, second_encoder, deep, "unet" in tensors, width))
    return Glance(
        family,
        metadata.get("lorastyle.trigger") or metadata.get("modelspec.trigger_phrase") or "",
        tuple(sorted(ranks)),
        metadata.get("sshs_model_hash", ""),
        _tags(metadata),
    )


def _is_plain(tensors: str) -> bool:
    """Whether all names are those of a UNet and of text encoders as the most usual programs write them."""
    counts = [tensors.count(start) for start in _STARTS]
    unet = not any(counts[:2]) or any(part in tensors for part in _UNET)
    return unet and sum(counts) == tensors.count("dtype") and not any(odd in tensors for odd in _ODD)


def _tags(metadata: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(tag.strip() for tag in metadata.get("modelspec.tags", "").split(",") if tag.strip())
