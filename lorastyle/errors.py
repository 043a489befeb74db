"""Everything lorastyle raises on purpose.

    LorastyleError
     ├── ConfigError        settings: unknown keys, values out of range (every problem at once)
     ├── AdapterError       an adapter cannot be used
     │    ├── AdapterFileError   its file is damaged, unsafe, or of no known format
     │    ├── TargetError        no module of the model matches
     │    └── BaseMismatchError  it was made for another base
     ├── BaseError          a base model cannot be loaded
     ├── DatasetError       a folder holds no image that can be used
     ├── TrainingError      training cannot go on
     ├── PictureError       a picture cannot be read, written, or has no settings
     └── HubError           something cannot be published on the Hub

Messages carry the value, what is allowed, and the next step.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self


class LorastyleError(Exception):
    """Base of every error that lorastyle raises on purpose.

    Attributes:
        path: the file or folder that it is about, where there is one. The message starts with it.
        reason: the message without that path.
    """

    path: Path | None = None
    reason: str = ""

    @classmethod
    def at(cls, path: str | os.PathLike[str], reason: str) -> Self:
        """An error about a file: `str` says "path: reason"."""
        error = cls(f"{path}: {reason}")
        error.path, error.reason = Path(path), reason
        return error

    def without_folders(self, name: str | None = None) -> str:
        """The message for somebody who must not learn where files are on this machine.

        Args:
            name: what that person calls the file; None takes the file's own name.
        """
        if self.path is None:
            return str(self)
        return f"{name or self.path.name}: {self.reason}"


class ConfigError(LorastyleError, ValueError):
    """Settings that cannot be used. `problems` lists every one of them."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class AdapterError(LorastyleError, ValueError):
    """An adapter cannot be used."""


class AdapterFileError(AdapterError):
    """An adapter file is damaged, unsafe, or of no known format."""


class TargetError(AdapterError):
    """No module of the model matches what was asked for."""


class BaseMismatchError(AdapterError):
    """An adapter was made for another base model."""


class BaseError(LorastyleError):
    """A base model cannot be loaded."""


class DatasetError(LorastyleError, ValueError):
    """A folder holds no image that can be used. `dropped` lists (file, reason) of each that is in it."""

    def __init__(self, message: str, dropped: Sequence[tuple[str, str]] = ()) -> None:
        self.dropped = tuple(dropped)
        super().__init__(message)


class TrainingError(LorastyleError):
    """Training cannot go on."""


class PictureError(LorastyleError, ValueError):
    """A picture cannot be read, written, or has no settings."""


class HubError(LorastyleError):
    """Something cannot be published on the Hugging Face Hub."""


def near_miss(value: str, allowed: Iterable[str], *, ending: str = "") -> str:
    """` Did you mean "x"?` for the closest allowed word, or an empty string. A shared `ending` makes no two
    words alike.
    """
    words = {word.removesuffix(ending): word for word in allowed}
    close = difflib.get_close_matches(value.removesuffix(ending), list(words), n=1, cutoff=0.6)
    return f' Did you mean "{words[close[0]]}"?' if close else ""


def shortened(value: object, most: int = 80) -> str:
    """As Python writes it, cut where a stranger made it long."""
    text = repr(value[: 2 * most] if isinstance(value, str) else value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def is_unicode(text: str) -> bool:
    """False where there are halves of characters: names in another encoding, and hostile JSON, have them."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
