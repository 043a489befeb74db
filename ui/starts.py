"""The pictures that a visitor draws from: kept under ids, each with its name, its hash and a small copy."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lorastyle.errors import PictureError
from lorastyle.pictures import Unusable, open_picture

from .tray import data_url, safe_name

MOST_STARTS = 16
_THUMBNAIL = 144


@dataclass(frozen=True)
class StartPicture:
    """A picture to start from, or a mask. `path` stays on the server; the page knows the `id`.

    Attributes:
        digest: the first 12 hex digits of the file's sha256, as pictures record it.
        thumbnail: a data URL.
    """

    id: str
    path: Path
    digest: str
    thumbnail: str

    @property
    def name(self) -> str:
        return self.path.name


class Starts:
    """One visitor's, in a folder of their own; the oldest goes where there would be more than 16."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, StartPicture] = {}
        self._lock = threading.Lock()

    def take_in(self, file: Path) -> StartPicture:
        """Move an uploaded picture in. It is gone from where it lay, whatever is decided.

        Raises:
            PictureError: no picture that can be read.
        """
        id = f"start-{secrets.token_hex(16)}"
        target = self._folder / id / safe_name(file.name)
        try:
            opened = open_picture(file)
            target.parent.mkdir(parents=True)
            shutil.move(file, target)
        except Unusable as error:
            raise PictureError(f"{file.name} cannot be used: {error}.") from error
        finally:
            file.unlink(missing_ok=True)
        taken = StartPicture(id, target, opened.sha256[:12], data_url(opened.image, _THUMBNAIL))
        with self._lock:
            self._held[id] = taken
            while len(self._held) > MOST_STARTS:
                oldest = self._held.pop(next(iter(self._held)))
                shutil.rmtree(oldest.path.parent, ignore_errors=True)
        return taken

    def look(self) -> Mapping[str, StartPicture]:
        """What is held, by id."""
        with self._lock:
            return dict(self._held)


def of_hash(held: Mapping[str, StartPicture], digest: str | None) -> StartPicture | None:
    """The one whose file has this hash; None where it is not held, or nobody knows the hash."""
    return next((start for start in held.values() if digest and start.digest == digest), None)
