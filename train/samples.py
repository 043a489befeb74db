"""What a folder's files turn out to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .captions import Caption


@dataclass(frozen=True)
class Sample:
    """One picture that is trained on.

    Attributes:
        name: its path inside the folder, with slashes; its randomness in training hangs on it.
        path: where it is.
        caption: the words found for it, and where.
        prompt: what the base is told it shows, trigger included.
        class_prompt: the same without the trigger, for prior preservation; empty where nothing is left.
        size: (width, height), upright.
        notes: what a person should know of how it was read.
        sha256: of the file's bytes, for caches.
        repeats: the 10 of a folder `10_cat`, as kohya's trainer reads it. It is reported, not used.
    """

    name: str
    path: Path
    caption: Caption
    prompt: str
    class_prompt: str
    size: tuple[int, int]
    notes: tuple[str, ...]
    sha256: str = ""
    repeats: int | None = None


@dataclass(frozen=True)
class Dropped:
    """A file (or a folder, ending in "/") that is not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Side:
    """A file that is no picture and need not be one, and what it is."""

    name: str
    what: str
