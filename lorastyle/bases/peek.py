"""The family of a base, from its small files alone: known at once, where loading takes a while."""

from __future__ import annotations

from pathlib import Path

from lorastyle.errors import BaseError

from .default import default_base
from .family import family_from_width
from .folder import inspect_folder
from .hub import cached_folder, split_hub_id
from .load import EMBEDDED
from .single_file import inspect_checkpoint


def peek_family(name: str | None = None) -> str | None:
    """The family of the embedded base, a folder, a checkpoint file or a model in the Hub's cache, else None.

    Raises:
        BaseError: the folder or file is damaged, or of another kind.
    """
    name = default_base() if name is None else name
    path = EMBEDDED if name == "embedded" else Path(name).expanduser()
    if path.is_dir():
        return inspect_folder(path, name).family
    if path.is_file():
        return family_from_width(inspect_checkpoint(path, name).text_width)
    if (hub_id := split_hub_id(name)) is not None and (cached := cached_folder(*hub_id)) is not None:
        try:
            return inspect_folder(cached, name).family
        except BaseError:  # half a download, which loading makes whole
            return None
    return None
