"""Adapters that somebody typed, by names of the Hugging Face Hub as well."""

from __future__ import annotations

from dataclasses import replace

from lorastyle.hub import pull
from lorastyle.library import look_up

from .request import AdapterUse


def fetched(use: AdapterUse) -> AdapterUse:
    """An adapter that somebody typed, fetched where its name is the Hub's; its name then says which file.

    Raises:
        AdapterError: see `lorastyle.hub.pull`.
    """
    if look_up(use.name) is not None or (there := pull(use.name)) is None:
        return use
    return replace(use, name=there[0])
