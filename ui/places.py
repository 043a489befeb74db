"""What a visitor may read: names, and never where something is on this machine."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lorastyle.bases import cache_folder
from lorastyle.errors import LorastyleError
from lorastyle.library import adapter_folders, home

_FOLDER = re.compile(r"""(?<![\w.~:/\\-])(?:[A-Za-z]:)?[/\\](?:[^/\\\s"'<>|:;,()]+[/\\])+(?=[^/\\\s])""")


def explain(error: LorastyleError, name: str | None = None) -> str:
    """An error as a visitor reads it.

    Args:
        name: what the visitor calls the file that it is about; None takes the file's own name.
    """
    return without_folders(error.without_folders(name))


def without_folders(text: str, more: Iterable[Path] = ()) -> str:
    """A text that another process or library wrote, with the names of files alone.

    Args:
        more: folders that are known to be in it, whatever letters their names have.
    """
    for folder in sorted({str(folder) for folder in (*more, *_known())}, key=len, reverse=True):
        for spelling in {folder, folder.replace("\\", "/"), folder.replace("\\", "\\\\")}:
            text = re.sub(re.escape(spelling) + r"(?:[/\\]+|(?![\w.-]))", "", text)
    return _FOLDER.sub("", text)


def _known() -> Iterable[Path]:
    """Folders that messages may hold although they are not written as the pattern expects; never the root."""
    temporary = Path(tempfile.gettempdir())
    for place in (Path.home(), home(), cache_folder(), Path.cwd(), temporary, *adapter_folders()):
        for folder in {Path(os.path.abspath(place)), place.resolve()}:
            if folder != Path(folder.anchor):
                yield folder
