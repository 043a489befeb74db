"""The adapters that can be drawn with, told from their headers alone and called by ids, never by paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lorastyle.adapters import model_hash, read_info
from lorastyle.errors import AdapterError
from lorastyle.generate import other_family
from lorastyle.library import SUFFIX, Entry, Headers, list_adapters

from .places import explain, without_folders

__all__ = ["SUFFIX", "Card", "Cards", "Refused", "Shelf", "find"]

_LONGEST_TRIGGER = 200


@dataclass(frozen=True)
class Card:
    """An adapter that fits the base. `path` stays on the server; the page knows the `id`."""

    id: str
    name: str
    trigger: str
    path: Path
    uploaded: bool = False

    @property
    def title(self) -> str:
        return f"{self.name} (uploaded)" if self.uploaded else self.name

    def digest(self) -> str | None:
        """First 12 hex digits of the weights' sha256; None where the file is gone or was damaged."""
        try:
            about = self.path.stat()
            return _digest(self.path, about.st_mtime_ns, about.st_size)
        except (AdapterError, OSError):
            return None


@dataclass(frozen=True)
class Refused:
    """A file that cannot be used here, and why, in one sentence without a path."""

    name: str
    why: str


Cards = Mapping[str, Card]


class Shelf:
    """The library folders, as seen with one base.

    Args:
        folders: where adapters lie; of two files of one name the first is meant, as on the command line.
        family, base: what the adapters must fit.

    A file's header is read once, and again when the file has changed.
    """

    def __init__(self, folders: Sequence[Path], family: str, base: str) -> None:
        self.folders = tuple(folders)
        self._family, self._base, self._headers = family, base, Headers()

    def look(self) -> tuple[dict[str, Card], list[Refused]]:
        """What is there now, by id, and what cannot be used."""
        entries = [e for e in list_adapters(self.folders, headers=self._headers) if not e.hidden]
        found = [self._of_library(entry) for entry in entries]
        cards = {card.id: card for card in found if isinstance(card, Card)}
        return cards, [refused for refused in found if isinstance(refused, Refused)]

    def judge(self, path: Path, id: str, *, uploaded: bool = False) -> Card | Refused:
        """Read a file's header and decide."""
        try:
            info = read_info(path)
        except AdapterError as error:
            return Refused(path.stem, explain(error))
        return self._decide(path, id, path.stem, info.family, info.trigger or "", uploaded)

    def _of_library(self, entry: Entry) -> Card | Refused:
        if entry.told.problem:
            return Refused(entry.name, without_folders(f"{entry.path.name}: {entry.told.problem}"))
        return self._decide(entry.path, entry.name, entry.name, entry.told.family, entry.told.trigger)

    def _decide(
        self, path: Path, id: str, name: str, family: str | None, trigger: str, uploaded: bool = False
    ) -> Card | Refused:
        if why := other_family(path.name, family, self._family, self._base):
            return Refused(name, why)
        trigger = "".join(letter if letter.isprintable() else " " for letter in trigger)
        return Card(id, name, trigger.strip()[:_LONGEST_TRIGGER], path, uploaded)


def find(cards: Iterable[Card], name: str, digest: str | None) -> tuple[Card | None, bool]:
    """The card that somebody else calls `name`: that of the same weights, else that of the same name.

    Returns:
        The card or None, and whether its weights are the ones that were asked for.
    """
    cards = list(cards)
    named = next((card for card in cards if card.name == name), None)
    if digest is None:
        return named, named is not None
    likely = [card for card in (named, *cards) if card is not None]
    same = next((card for card in likely if card.digest() == digest), None)
    return same or named, same is not None


@lru_cache(maxsize=4096)
def _digest(path: Path, _modified: int, _size: int) -> str:
    return model_hash(path)[:12]
