"""Experimental: words of the prompt claim adapters, `a [cat:fluffy] on a [sofa:ink]`.

A claimed adapter acts where the picture attends to its words. The picture is drawn without it first, which
shows where that is, and then with it there. What is between the brackets is the words, then what `-a` takes.
"""

from __future__ import annotations

import re
from dataclasses import replace

from lorastyle.errors import ConfigError, shortened
from lorastyle.notes import note

from .request import GenerateRequest
from .uses import AdapterUse

_CLAIM = re.compile(r"\[([^\[\]:]*):([^\[\]]*)\]")


def with_claims_read(request: GenerateRequest) -> GenerateRequest:
    """The request with the words that its prompt claims adapters with, if its `mixture` is on; the prompt
    without these brackets.

    An adapter that the request has is named alone, `[cat:fluffy]`; another may have a scale and options.

    Raises:
        ConfigError: a claim that cannot be read, or a second one of the same adapter.

    Warns:
        UserWarning: there is none.
    """
    if not request.mixture:
        return request
    uses = {use.name: use for use in request.adapters}
    claimed, problems = set[str](), list[str]()
    for words, adapter in _CLAIM.findall(request.prompt):
        try:
            use = uses[adapter] if adapter in uses else AdapterUse.parse(adapter)
            if use.name in claimed or use.words is not None or (adapter != use.name and use.name in uses):
                raise ConfigError(f"prompt: the adapter {shortened(use.name)} is claimed or named twice.")
            uses[use.name] = replace(use, words=words.strip())
            claimed.add(use.name)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    if not any(use.words for use in uses.values()):
        note(
            f"mixture is on, and the prompt {shortened(request.prompt)} claims no adapter: write "
            "[words:adapter], such as a [cat:fluffy] on a sofa.",
            stacklevel=3,
        )
    prompt = _CLAIM.sub(lambda found: found[1], request.prompt)
    return replace(request, prompt=prompt, adapters=tuple(uses.values()), mixture=False)
