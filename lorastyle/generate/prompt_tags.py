"""Adapters named in the prompt, as A1111's users write them: `<lora:cat:0.8:start=0.2:blocks=IN:0>`.

What is between the colons is what `-a` takes, and two numbers are A1111's: of the text encoder, then of the
UNet. The names are read and nothing is looked for: the page finds them among its own cards alone.
"""

from __future__ import annotations

import re
from dataclasses import replace

from lorastyle.errors import ConfigError, shortened

from .claims import with_claims_read
from .request import GenerateRequest
from .uses import AdapterUse

_TAG = re.compile(r"\s*<lora:([^<>]*)>")
_TWO = re.compile(r"(.+?):([^:=@,]+):([^:=@,]+)((?::\s*[a-z_]+\s*=.*)?)", re.DOTALL)


def with_tags_read(request: GenerateRequest) -> GenerateRequest:
    """The request with the adapters that its prompt names, after those it has, and the prompt without them;
    with `mixture`, the claims are read as well.

    Raises:
        ConfigError: a tag or a claim that cannot be read, a tag inside another, or an adapter that is named
            twice.
    """
    tags = _TAG.findall(request.prompt)
    if not tags:
        return with_claims_read(request)
    uses: list[AdapterUse] = []
    problems: list[str] = []
    for tag in tags:
        try:
            uses.append(_use(tag))
        except ConfigError as error:
            problems += error.problems
    prompt = _TAG.sub("", request.prompt).strip()
    if inside := _TAG.search(prompt):  # what is left must draw the same picture when it is read again
        problems.append(
            f"prompt: {shortened(inside[0].strip())} has a tag inside of it. Write one after another."
        )
    if problems:
        raise ConfigError(problems)
    return with_claims_read(replace(request, prompt=prompt, adapters=(*request.adapters, *uses)))


def _use(tag: str) -> AdapterUse:
    two = _TWO.fullmatch(tag)
    if two is None or not (_is_number(two[2]) and _is_number(two[3])):
        return AdapterUse.parse(tag)
    te, unet = float(two[2]), float(two[3])
    use = AdapterUse.parse(f"{two[1]}:{unet!r}{two[4]}")
    return use if te == unet or use.te is not None else replace(use, te=te)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
