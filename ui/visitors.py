"""Who is looking at the page: each with uploads, pictures and a Stop of their own."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from lorastyle.errors import AdapterFileError

from .shelf import SUFFIX, Card, Refused
from .starts import Starts
from .tray import Tray

MOST_UPLOADS = 16
_IDLE_SECONDS = 24 * 3600.0


class Visitor:
    """One page in one browser. Nothing of it is seen by another.

    Args:
        folder: private to this visitor; made when first needed, removed by `leave`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uploads: dict[str, Card] = {}
        self.tray = Tray(folder / "to-train-on")
        self.starts = Starts(folder / "to-start-from")
        self.seen = time.monotonic()
        self._stops: set[threading.Event] = set()
        self._waiting: threading.Event | None = None
        self._lock = threading.Lock()

    def queue_up(self) -> None:
        """A drawing was asked for. From now on `stop()` reaches it, even while it waits for its turn."""
        with self._lock:
            self._waiting = threading.Event()

    @contextmanager
    def drawing(self) -> Generator[threading.Event]:
        """Inside, `stop()` sets the event that is given; it is set already if it was stopped in the queue."""
        with self._lock:
            stop, self._waiting = self._waiting or threading.Event(), None
            self._stops.add(stop)
        try:
            yield stop
        finally:
            with self._lock:
                self._stops.discard(stop)

    def stop(self) -> bool:
        """Stop what this visitor draws. Returns whether any of it had begun."""
        with self._lock:
            for stop in (*self._stops, *filter(None, (self._waiting,))):
                stop.set()
            return bool(self._stops)

    def take_in(self, file: Path, judge: Callable[[Path, str], Card | Refused]) -> Card | Refused:
        """Move an uploaded file into this visitor's folder, under an id that nobody can guess.

        Args:
            file: where the upload lies now. It is gone afterwards, whatever is decided.
            judge: reads its header; called with the new path and the id.

        Raises:
            AdapterFileError: no `.safetensors`, or more uploads than are kept.
        """
        try:
            if file.suffix.lower() != SUFFIX:
                raise AdapterFileError.at(
                    file.name, f"only {SUFFIX} files are taken, for others can run code."
                )
            if len(self.uploads) >= MOST_UPLOADS:
                raise AdapterFileError(
                    f"{MOST_UPLOADS} uploads are the most. Put adapters that you keep into a library folder."
                )
            token = f"upload-{secrets.token_hex(16)}"
            target = self.folder / token / f"{_plain(file.stem)}{SUFFIX}"
            target.parent.mkdir(parents=True)
            shutil.move(file, target)
        finally:
            file.unlink(missing_ok=True)
        verdict = judge(target, token)
        if isinstance(verdict, Card):
            self.uploads[token] = verdict
        else:
            shutil.rmtree(target.parent, ignore_errors=True)
        return verdict

    def leave(self) -> None:
        """Stop everything, and remove everything."""
        self.stop()
        self.uploads.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


class Visitors:
    """All of them, by the key that their page drew by lot; the key is known to that page only."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._here: dict[str, Visitor] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._here)

    def get(self, key: str) -> Visitor:
        """The visitor of a key; those who were idle for a day have left."""
        now = time.monotonic()
        with self._lock:
            idle = [k for k, v in self._here.items() if now - v.seen > _IDLE_SECONDS and k != key]
            gone = [self._here.pop(k) for k in idle]
            visitor = self._here.get(key)
            if visitor is None:
                visitor = self._here[key] = Visitor(Path(tempfile.mkdtemp(prefix="visitor-", dir=self._root)))
            visitor.seen = now
        for other in gone:
            other.leave()
        return visitor

    def leave(self, key: str) -> None:
        """A page was closed."""
        with self._lock:
            visitor = self._here.pop(key, None)
        if visitor is not None:
            visitor.leave()

    def leave_all(self) -> None:
        """The page is served no more."""
        for key in list(self._here):
            self.leave(key)


def _plain(stem: str) -> str:
    """Letters, digits and a few marks, so that a stranger's name for a file harms nothing."""
    return re.sub(r"[^\w .()+-]+", "_", stem).strip(" .")[:80] or "adapter"
