"""The user's adapters by name: where they lie, what is known of them, and changing that.

Nothing here imports torch.
"""

from __future__ import annotations

from .changes import add, rename
from .entries import Entry, list_adapters
from .folders import SUFFIX, adapter_folders, home
from .headers import Headers
from .names import expanded, find_adapter, in_library, look_up
from .tags import change_tags, read_tags
from .trash import Removed, list_removed, remove, restore

__all__ = [
    "SUFFIX",
    "Entry",
    "Headers",
    "Removed",
    "adapter_folders",
    "add",
    "change_tags",
    "expanded",
    "find_adapter",
    "home",
    "in_library",
    "list_adapters",
    "list_removed",
    "look_up",
    "read_tags",
    "remove",
    "rename",
    "restore",
]
