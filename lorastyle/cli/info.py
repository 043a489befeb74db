"""`lorastyle info`: what is in an adapter file, or in a picture. Reads no weights and never imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lorastyle.adapters import read_info
from lorastyle.library import SUFFIX

from .console import note, say
from .named import adapter_path
from .names import near

if TYPE_CHECKING:
    from lorastyle.generate import AdapterUse, GenerateRequest


def info(file: str, /, *, as_json: Annotated[bool, Parameter("--json", negative="")] = False) -> None:
    """Say what is in an adapter file: which base it is for, its trigger word, rank, size, how it was made.

    Of a picture (PNG, JPEG, WebP), say which settings drew it, and what of them is not at hand here.

    Args:
        file: an adapter's name in the library, a .safetensors file, a peft folder, or a picture.
        as_json: print JSON.
    """
    if (path := Path(file)).suffix not in ("", SUFFIX) and _is_picture(path):
        _of_picture(path, as_json)
        return
    found = read_info(adapter_path(file))
    if as_json:
        say(json.dumps(found.as_dict(), indent=2))
    else:
        say(found.describe())


def _is_picture(path: Path) -> bool:
    from lorastyle.generate import PICTURE_FORMATS  # slow to import, beside a header that is read

    return path.suffix.lower() in PICTURE_FORMATS


def _of_picture(picture: Path, as_json: bool) -> None:
    from lorastyle.generate import read_settings

    request, remarks = read_settings(picture, keep_missing=True)
    if as_json:
        say(json.dumps({"request": request.to_dict(), "remarks": remarks}, indent=2))
        return
    say(_settings(request))
    for remark in remarks:
        note(remark)
    say(f"Draw it again: lorastyle generate --like {quote(near(picture.absolute()))}")


def _use(use: AdapterUse) -> str:
    """As `-a` takes it, with the digits that people write."""
    return str(use).replace(f":{use.scale!r}", f":{use.scale:g}", 1)


def _settings(request: GenerateRequest) -> str:
    """A line for each setting that is not left open."""
    values = request.to_dict()
    values["adapters"] = ", ".join(
        _use(use) + (f" ({use.hash})" if use.hash else "") for use in request.adapters
    )
    del values["number"]
    lines = ((key, str(value)) for key, value in values.items() if value not in ("", ()))
    return "\n".join(f"{key.replace('_', ' ') + ':':<17} {_printable(text)}" for key, text in lines)


def _printable(text: str) -> str:
    """Texts come from strangers, and a terminal obeys control characters."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
