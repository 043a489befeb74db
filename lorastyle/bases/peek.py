"""What a base is, from its small files alone: known at once, where loading takes a while."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorastyle.errors import BaseError
from lorastyle.hub import split_hub_id

from .default import default_base
from .family import family_from_width
from .folder import inspect_folder
from .hub import cached_folder
from .load import EMBEDDED
from .single_file import inspect_checkpoint


@dataclass(frozen=True)
class Peeked:
    """What is known of a base before it is loaded.

    Attributes:
        family: adapters fit within it.
        inpainting: whether it reads a mask and the masked picture itself.
    """

    family: str
    inpainting: bool


def peek_base(name: str | None = None) -> Peeked | None:
    """What the embedded base, a folder or a checkpoint file is; or a model in the Hub's cache, else None.

    Raises:
        BaseError: the folder or file is damaged, or of another kind.
    """
    name = default_base() if name is None else name
    path = EMBEDDED if name == "embedded" else Path(name).expanduser()
    if path.is_dir():
        folder = inspect_folder(path, name)
        return Peeked(folder.family, folder.inpainting)
    if path.is_file():
        checkpoint = inspect_checkpoint(path, name)
        return Peeked(family_from_width(checkpoint.text_width), checkpoint.inpainting)
    if (hub_id := split_hub_id(name)) is not None and (cached := cached_folder(*hub_id)) is not None:
        try:
            folder = inspect_folder(cached, name)
        except BaseError:  # half a download, which loading makes whole
            return None
        return Peeked(folder.family, folder.inpainting)
    return None


def peek_family(name: str | None = None) -> str | None:
    """The family alone; as `peek_base`."""
    peeked = peek_base(name)
    return None if peeked is None else peeked.family
