"""lorastyle's own text in a picture: versioned JSON with the whole request. Data, never evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn, cast

from lorastyle.errors import PictureError

from ..prompt_syntax import as_words
from ..request import AdapterUse, GenerateRequest
from .portable import portable_request
from .recorded import Recorded, as_table, clamped, known_only

# 1: brackets were letters, and guidance was never rescaled. 2: AND, BREAK, [a:b:0.5] and [a|b] were words.
FORMAT_VERSION = 3
_REQUEST_KEYS = tuple(f.name for f in fields(GenerateRequest))
_ADAPTER_KEYS = tuple(f.name for f in fields(AdapterUse))


@cache
def libraries() -> dict[str, str]:
    """The versions that drew the picture."""
    return {name: found for name in ("lorastyle", "torch", "diffusers") if (found := _version(name))}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a source tree
        return None


def write_own(request: GenerateRequest) -> str:
    """The text for a request that is `portable_request` already."""
    own = {"version": FORMAT_VERSION, "request": request.to_dict(), "libraries": libraries()}
    return json.dumps(own, ensure_ascii=False)


def read_own(text: str) -> Recorded:
    """The inverse: numbers clamped, paths made names, unknown keys left out, each with a remark.

    Raises:
        PictureError: not JSON, no request in it, or of a later version.
        ConfigError: values that cannot be used.
    """
    content = as_table(read_json(text, "lorastyle")) or {}
    request = as_table(content.get("request"))
    if request is None or type(content.get("version")) is not int:
        raise PictureError("its lorastyle text holds no request.")
    if content["version"] in (1, 2):
        request = _as_drawn_then(request, content["version"])
    elif content["version"] != FORMAT_VERSION:
        raise PictureError(
            f"its request has the format version {str(content['version'])[:20]}; this lorastyle reads "
            f"up to {FORMAT_VERSION}. Update it."
        )
    values, remarks = known_only(request, _REQUEST_KEYS, "The request")
    values, moved = clamped(values)
    if isinstance(adapters := values.get("adapters"), list):
        values["adapters"] = [_known_adapter(use, remarks) for use in cast("list[object]", adapters)]
    found = GenerateRequest.from_dict({**values, "number": 1})
    return Recorded(portable_request(found), (*remarks, *moved))


def read_json(text: str, what: str) -> object:
    """JSON of a stranger, without NaN and infinity.

    Raises:
        PictureError: it is none, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise PictureError(f"its {what} text is JSON nested too deep to be settings.") from error
    except ValueError as error:
        raise PictureError(f"its {what} text is not valid JSON ({str(error)[:200]}).") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _known_adapter(use: object, remarks: list[str]) -> object:
    table = as_table(use)
    if table is None:
        return use
    kept, strange = known_only(table, _ADAPTER_KEYS, "One of the adapters")
    remarks += strange
    return kept


def _as_drawn_then(request: Mapping[str, object], version: int) -> dict[str, object]:
    """What draws a picture of an earlier version again."""
    texts = {
        key: as_words(re.sub(r"([\\()\[\]])", r"\\\1", text) if version == 1 else text)
        for key in ("prompt", "negative_prompt")
        if isinstance(text := request.get(key), str)
    }
    return {**request, **texts, **({"guidance_rescale": 0.0} if version == 1 else {})}
