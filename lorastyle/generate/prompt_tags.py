"""Adapters named in the prompt of a request, as A1111's users write them: `<lora:cat:0.8:start=0.2>`."""

from __future__ import annotations

from dataclasses import replace

from lorastyle.errors import ConfigError

from .claims import with_claims_read
from .lora_tags import read_lora_tags, without_tags_in_negative
from .request import GenerateRequest


def with_tags_read(request: GenerateRequest) -> GenerateRequest:
    """The request with the adapters that its prompt names, after those it has, and the prompts without tags;
    with `mixture`, the claims are read as well.

    Raises:
        ConfigError: a tag or a claim that cannot be read, a tag inside another, one without an end, or an
            adapter that is named twice.
    """
    read = read_lora_tags(request.prompt, request.steps)
    if read.problems:
        raise ConfigError(read.problems)
    negative = without_tags_in_negative(request.negative_prompt)
    if (read.text, read.uses, negative) != (request.prompt, (), request.negative_prompt):
        uses = (*request.adapters, *read.uses)
        request = replace(request, prompt=read.text, negative_prompt=negative, adapters=uses)
    return with_claims_read(request)
