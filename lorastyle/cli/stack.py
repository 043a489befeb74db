"""Adapters as they are typed, `cat:0.8 ink:0.5`, for commands that put several together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorastyle.adapters import read_info
from lorastyle.errors import ConfigError, near_miss
from lorastyle.generate import AdapterUse, fetched
from lorastyle.library import find_adapter

from .modules import modules_for

if TYPE_CHECKING:
    from lorastyle.adapters import Modules, PartFile


def typed_parts(adapters: Sequence[str], block_weights: Sequence[str] = ()) -> list[PartFile]:
    """The files and scales of adapters as `-a` takes them.

    Args:
        block_weights: "BLOCKS" for all, or "NAME=BLOCKS" for the adapter that was typed so.

    Raises:
        AdapterError: not found, or not fetched.
        ConfigError: no adapter at all, or block weights for one that is not named.
    """
    from lorastyle.adapters import PartFile

    if not adapters:
        raise ConfigError("Name the adapters, such as cat:0.8 ink:0.5.")
    uses = [AdapterUse.parse(text) for text in adapters]
    blocks: dict[str | None, str] = {}
    for text in block_weights:
        name, equals, weights = text.rpartition("=")
        if equals and name not in (names := [use.name for use in uses]):
            raise ConfigError(
                f'--block-weights are for "{name}", which is not named.{near_miss(name, names)} '
                f"There is: {', '.join(names)}."
            )
        blocks[name if equals else None] = weights
    return [
        PartFile(find_adapter(fetched(use).name), use.scale, blocks.get(use.name, blocks.get(None)))
        for use in uses
    ]


def modules_of(files: Sequence[Path], base: str | None) -> Modules | None:
    """The modules of the base that is named, or of the first family that one of the files is made for; None
    where each file's names must do.

    Raises:
        BaseError: the base cannot be loaded.
    """
    from .modules import OWN

    if base is not None:
        return modules_for(files[0], base)
    own = next((file for file in files if read_info(file).family == OWN), None)
    return None if own is None else modules_for(own, None)
