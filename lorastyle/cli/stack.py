"""Adapters as they are typed, `cat:0.8 ink:0.5`, for commands that put several together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorastyle.adapters import read_info
from lorastyle.errors import ConfigError, near_miss
from lorastyle.generate import AdapterUse, fetched
from lorastyle.library import find_adapter

from .modules import OWN

if TYPE_CHECKING:
    from lorastyle.adapters import PartFile
    from lorastyle.bases import StoredBase

_OPTIONS = ("te", "unet", "blocks")


def typed_parts(adapters: Sequence[str], block_weights: Sequence[str] = ()) -> list[PartFile]:
    """The files and scales of adapters as `-a` takes them: `te=`, `unet=` and `blocks=` mean what they do
    there; what changes by step or place is no part of a file.

    Args:
        block_weights: "BLOCKS" for all, or "NAME=BLOCKS" for the adapter that was typed so.

    Raises:
        AdapterError: not found, or not fetched.
        ConfigError: no adapter at all, block weights for one that is not named, or an option that only
            drawing has.
    """
    from lorastyle.adapters import PartFile

    if not adapters:
        raise ConfigError("Name the adapters, such as cat:0.8 ink:0.5.")
    uses = [AdapterUse.parse(text) for text in adapters]
    read = ", ".join(f"{option}=" for option in _OPTIONS)
    for use in uses:
        if others := [f"{option}=" for option in use.options() if option not in _OPTIONS]:
            raise ConfigError(
                f'"{use.name}" has {", ".join(others)}, which is for drawing: the weights of a file are the '
                f"same at every step and place. Leave it out; read are {read}."
            )
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
        PartFile(
            find_adapter(fetched(use).name),
            use.scale,
            use.blocks or blocks.get(use.name, blocks.get(None)),
            use.te,
            use.unet,
        )
        for use in uses
    ]


def base_of(files: Sequence[Path], base: str | None) -> StoredBase | None:
    """The base that is named, or the embedded one where a file is made for it: its weights are read when an
    update depends on them, and not before. None where each file's own names and shapes must do.

    Raises:
        BaseError: the base cannot be read.
    """
    if base is None and any(read_info(file).family == OWN for file in files):
        base = "embedded"
    if base is None:
        return None
    from lorastyle.bases import open_stored

    return open_stored(base)
