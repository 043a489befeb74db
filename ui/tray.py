"""The pictures that a visitor dropped to train on: copied under safe names, each with its verdict."""

from __future__ import annotations

import base64
import io
import re
import shutil
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from lorastyle.errors import DatasetError
from lorastyle.pictures import Unusable, open_picture
from lorastyle.train import Dataset, scan

MOST_FILES = 500
MOST_BYTES = 4_000_000_000
_THUMBNAIL = 144
_NO_NAME = re.compile(r"[^\w .()+-]+")


@dataclass(frozen=True)
class Verdict:
    """What becomes of one file.

    Attributes:
        file: its name in the tray.
        verdict: "used", "left out" (with `reason`), or "words" (captions and the like; `reason` says whose).
        prompt: what the base will be told that it shows.
        size: (width, height) in pixels, of pictures that are used.
        notes: what a person should know of how it is used.
        thumbnail: a data URL; empty where there is no picture.
    """

    file: str
    verdict: Literal["used", "left out", "words"]
    reason: str = ""
    prompt: str = ""
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    thumbnail: str = ""


class Tray:
    """One visitor's pictures, in a folder of their own that is made when needed.

    `dataset` is what they are as a whole; None where none can be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dataset: Dataset | None = None
        self._dropped: tuple[tuple[str, str], ...] = ()
        self._thumbnails: dict[str, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._files())

    def add(self, uploads: Iterable[Path]) -> list[str]:
        """Move files in, and look at all of them anew. Returns a sentence for each that was not taken."""
        refused: list[str] = []
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = {file.name: file.stat().st_size for file in self._files()}
            for upload in uploads:
                size = upload.stat().st_size
                if len(held) >= MOST_FILES:
                    refused.append(f"{upload.name}: {MOST_FILES} files are the most that a page takes.")
                elif sum(held.values()) + size > MOST_BYTES:
                    refused.append(f"{upload.name}: with it, the pictures would be more than 4 GB.")
                else:
                    name = _free(safe_name(upload.name), held)
                    shutil.move(upload, self.folder / name)
                    held[name] = size
                    continue
                upload.unlink(missing_ok=True)
            self._look()
        return refused

    def remove(self, name: object) -> None:
        """Take one file out, by its name in the tray; others are not listened to."""
        with self._lock:
            for file in self._files():
                if file.name == name:
                    file.unlink()
            self._look()

    def clear(self) -> None:
        """Take all out."""
        with self._lock:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._look()

    def copy_to(self, folder: Path) -> None:
        """All files, in the place of what was in that folder, which ends up with all of them or as it was."""
        with self._lock:
            new = folder.with_name(f"{folder.name}.new")
            shutil.rmtree(new, ignore_errors=True)
            shutil.copytree(self.folder, new)
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)

    def verdicts(self, dataset: Dataset | None, notes: Sequence[tuple[str, str]] = ()) -> list[Verdict]:
        """One for each file: used ones first, then those left out, then captions.

        Args:
            dataset: of this tray, with its prompts decided.
            notes: (file, note), more than the pictures' own.
        """
        if dataset is None:
            return [Verdict(name, "left out", reason) for name, reason in self._dropped]
        said: dict[str, list[str]] = {}
        for name, note in notes:
            said.setdefault(name, []).append(note)
        return [
            *(
                Verdict(
                    sample.name,
                    "used",
                    prompt=sample.prompt,
                    size=sample.size,
                    notes=tuple(dict.fromkeys((*sample.notes, *said.get(sample.name, ())))),
                    thumbnail=self._thumbnails.get(sample.name, ""),
                )
                for sample in dataset.used
            ),
            *(
                Verdict(file.name, "left out", file.reason, thumbnail=self._thumbnails.get(file.name, ""))
                for file in dataset.dropped
            ),
            *(Verdict(file.name, "words", file.what) for file in dataset.side),
        ]

    def _files(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []

    def _look(self) -> None:
        names = [file.name for file in self._files()]
        self._thumbnails = {
            name: self._thumbnails[name] if name in self._thumbnails else thumbnail(self.folder / name)
            for name in names
        }
        self.dataset, self._dropped = None, ()
        if not names:
            return
        try:
            self.dataset = scan(self.folder)
        except DatasetError as error:
            self._dropped = error.dropped


def safe_name(name: str) -> str:
    """Letters of any language, digits and a few marks, as a file's name on every system, not hidden.

    `../../.bashrc` is bashrc, `a/b:c*.png` is `b_c_.png`.
    """
    kept = _NO_NAME.sub("_", unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1]))
    stem, dot, ending = kept.strip(" .").rpartition(".")
    stem, ending = (stem, ending) if dot else (ending, "")
    stem = stem.rstrip(" .")[:80] or "picture"
    return f"{stem}.{ending[:12]}" if ending else stem


def thumbnail(path: Path) -> str:
    """A small copy as a data URL; empty where the file is no picture that can be read."""
    try:
        image = open_picture(path).image
    except Unusable:
        return ""
    return data_url(image, _THUMBNAIL)


def data_url(image: Image.Image, longest: int) -> str:
    """The picture inside the page, at most `longest` pixels a side."""
    small = image.convert("RGB")
    small.thumbnail((longest, longest))
    data = io.BytesIO()
    small.save(data, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _free(name: str, taken: Iterable[str]) -> str:
    """`cat.png`, or `cat-2.png` where there is one, in capitals or not."""
    have = {other.lower() for other in taken}
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, f".{ending}") if dot else (name, "")
    choices = (f"{stem}-{number}{ending}" for number in range(2, len(have) + 3))
    return name if name.lower() not in have else next(c for c in choices if c.lower() not in have)
