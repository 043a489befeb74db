"""Files beside pictures: `cat.txt` and `cat.caption`, lists of captions, and what systems leave behind."""

from __future__ import annotations

import json
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from lorastyle.bases import plain_text
from lorastyle.text_files import decode_text

from .captions import Caption, clean

SIDE_SUFFIXES = (".txt", ".caption")  # the first wins
INDEX_NAMES = ("metadata.jsonl", "captions.jsonl", "captions.json")
SYSTEM_FILES = {
    ".ds_store": "written by macOS",
    "thumbs.db": "written by Windows",
    "desktop.ini": "written by Windows",
    ".directory": "written by the file manager",
    ".gitkeep": "written by git",
    ".gitignore": "written by git",
}
MOST_BYTES = 20_000_000  # of captions in one file
MOST_CHARACTERS = 2_000  # of one caption; text encoders read a few hundred

_NAME_KEYS = ("file_name", "image", "file", "path")
_TEXT_KEYS = ("text", "caption", "prompt")


def system_file(name: str) -> str | None:
    """Who wrote a file that is none of the person's; None for all others."""
    if name.startswith("._"):
        return "written by macOS"
    if name.startswith("~$"):
        return "left by an office program"
    return SYSTEM_FILES.get(name.lower())


def is_side_file(path: Path) -> bool:
    """Whether the name is that of captions."""
    return path.suffix.lower() in SIDE_SUFFIXES or path.name.lower() in INDEX_NAMES


@dataclass
class Captions:
    """The captions that files of a folder hold.

    Attributes:
        beside: the side files of a picture, by its path with or without its ending, the first wins.
        listed: (text, list's name) by the picture's path.
        problems: (file, reason) of what could not be read.
    """

    beside: dict[str, list[Path]] = field(default_factory=dict[str, list[Path]])
    listed: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    problems: list[tuple[Path, str]] = field(default_factory=list[tuple[Path, str]])

    @classmethod
    def among(cls, files: Iterable[Path]) -> Captions:
        """Read the lists, note the others."""
        found = cls()
        for path in files:
            if path.name.lower() in INDEX_NAMES:
                found._read_list(path)
            elif path.suffix.lower() in SIDE_SUFFIXES:
                found.beside.setdefault(_key(path.with_suffix("")), []).append(path)
        for paths in found.beside.values():
            paths.sort(key=lambda path: (SIDE_SUFFIXES.index(path.suffix.lower()), path.name))
        return found

    def side_files(self, picture: Path) -> list[Path]:
        """Those of `cat.png`: cat.png.txt, cat.txt, cat.caption; only the first is read."""
        keys = dict.fromkeys((_key(picture), _key(picture.with_suffix(""))))
        return [path for key in keys for path in self.beside.get(key, [])]

    def of(self, picture: Path) -> Caption | None:
        """What a file says of the picture, which may be nothing; None where none speaks of it."""
        for path in self.side_files(picture)[:1]:
            try:
                decoded = decode_text(_read(path))
            except OSError as error:
                return Caption(notes=(f"its caption {path.name} cannot be read ({error.strerror or error})",))
            text, notes = clean(plain_text(decoded.text)), [decoded.note] * bool(decoded.note)
            if len(text) > MOST_CHARACTERS:
                text = text[:MOST_CHARACTERS].rsplit(" ", 1)[0]
                notes.append(f"is long: the first {MOST_CHARACTERS:,} characters are read")
            notes = [f"{path.name} {note}" for note in notes]
            if not text:
                return Caption(notes=(*notes, f"{path.name} is empty: no caption"))
            return Caption(text, path.name, tuple(notes))
        if (found := self.listed.get(_key(picture))) and found[0]:
            return Caption(*found)
        return None

    def _read_list(self, path: Path) -> None:
        try:
            decoded = decode_text(_read(path))
        except OSError as error:
            self.problems.append((path, f"cannot be read ({error.strerror or error})"))
            return
        if decoded.note:
            self.problems.append((path, decoded.note))
        for where, entry in self._entries(path, decoded.text):
            name = next((entry[key] for key in _NAME_KEYS if isinstance(entry.get(key), str)), None)
            words = next((entry[key] for key in _TEXT_KEYS if isinstance(entry.get(key), str)), None)
            if name is None or words is None:
                self.problems.append((path, f'{where} has no "file_name" with a "text"; it is left out'))
                continue
            picture = path.parent / str(name).replace("\\", "/")
            if not os.path.exists(picture):
                self.problems.append((path, f'{where} is about "{clean(str(name))}", which is not there'))
            self.listed.setdefault(_key(picture), (clean(plain_text(str(words))), path.name))

    def _entries(self, path: Path, text: str) -> Iterator[tuple[str, Mapping[str, object]]]:
        """(where it stands, entry) of JSON lines, of a JSON list, or of a table {name: text}."""
        lines = path.suffix.lower() == ".jsonl"
        # Not splitlines(), which also splits at characters that JSON allows inside a text.
        for number, part in enumerate(text.split("\n") if lines else [text], start=1):
            if not part.strip():
                continue
            try:
                read = cast(object, json.loads(part))
            except (ValueError, RecursionError) as error:
                where = number if lines else getattr(error, "lineno", 1)
                self.problems.append((path, f"line {where} is not written as JSON; it is left out"))
                continue
            if lines:
                yield f"line {number}", _table(read)
            elif isinstance(read, list):
                for i, entry in enumerate(cast("list[object]", read), start=1):
                    yield f"entry {i}", _table(entry)
            else:
                for name, said in _table(read).items():
                    table = _table(said)
                    yield f'"{clean(name)}"', {"text": said, **table, "file_name": name}


def _table(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _read(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for ever
        raise OSError("not an ordinary file")
    with path.open("rb") as file:
        return file.read(MOST_BYTES)


def _key(path: Path) -> str:
    """The path, the same for both ways of writing accents that file systems know."""
    return unicodedata.normalize("NFC", os.path.normpath(path))
