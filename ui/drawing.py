"""One drawing, made in a thread of its own and watched from another."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from PIL import Image

from lorastyle.errors import LorastyleError
from lorastyle.generate import GenerateRequest, Picture
from lorastyle.notes import collecting

from .places import explain, without_folders

LOOK_EVERY = 0.3  # seconds: previews between two looks are never sent, so that a slow link does not lag


class Draws(Protocol):
    """What an `Engine` does."""

    def generate(
        self,
        request: GenerateRequest,
        *,
        on_step: Callable[[int, int], None] | None = None,
        on_picture: Callable[[Picture], None] | None = None,
        on_preview: Callable[[list[Image.Image]], None] | None = None,
        stop: threading.Event | None = None,
    ) -> list[Picture]: ...


@dataclass(frozen=True)
class Drawn:
    """A picture on disk, the request that draws it, and the one without adapters to compare with."""

    path: Path
    request: GenerateRequest
    without: Path | None = None


@dataclass(frozen=True)
class View:
    """How far it is. `left` is in seconds, None while nothing is known; `error` is one message for people."""

    done: int = 0
    total: int = 0
    left: float | None = None
    preview: Sequence[Image.Image] = ()
    drawn: tuple[Drawn, ...] = ()
    over: bool = False
    stopped: bool = False
    seconds: float = 0.0
    error: str | None = None
    notes: tuple[str, ...] = field(default=())


class Drawing:
    """Draws a request once it is iterated over: `for view in drawing: ...`, the last of which is `over`.

    Args:
        engine: draws.
        request: what to draw.
        save: writes a picture to disk; called with False for those that are only there to compare with.
        stop: ends it within two steps, and so does leaving the loop.
        compare: draw everything a second time without adapters, with the same seeds and settings.
    """

    def __init__(
        self,
        engine: Draws,
        request: GenerateRequest,
        *,
        save: Callable[[Picture, bool], Path],
        stop: threading.Event,
        compare: bool = False,
    ) -> None:
        self._engine, self._request, self._save = engine, request, save
        self._stop = stop
        self._rounds = 2 if compare and request.adapters else 1
        self._view = View()
        self._changed = threading.Condition()
        self._began = time.monotonic()
        self._worker = threading.Thread(target=self._work, name="lorastyle-drawing", daemon=True)

    def __iter__(self) -> Iterator[View]:
        self._worker.start()
        try:
            view: View | None = None
            while view is None or not view.over:
                with self._changed:
                    self._changed.wait_for(lambda: self._view.over, LOOK_EVERY)
                    now = self._view
                if now is not view:
                    yield now
                view = now
        finally:
            self._stop.set()
            self._worker.join()

    def join(self) -> None:
        """Until it is over."""
        if self._worker.is_alive():
            self._worker.join()

    def _show(self, **changes: object) -> None:
        with self._changed:
            self._view = replace(self._view, **changes)  # pyright: ignore[reportArgumentType]
            self._changed.notify_all()

    def _work(self) -> None:
        error: str | None = None
        with collecting() as notes:
            try:
                self._draw()
            except LorastyleError as problem:
                error = explain(problem)
            except Exception as problem:  # the page must end its wait, and the terminal must tell
                traceback.print_exc()
                error = (
                    f"lorastyle failed ({type(problem).__name__}). The terminal that it runs in says more."
                )
        seconds = time.monotonic() - self._began
        stopped = self._stop.is_set() and error is None
        self._show(
            over=True,
            stopped=stopped,
            seconds=seconds,
            error=error,
            notes=tuple(map(without_folders, notes)),
            preview=(),
            left=None,
        )

    def _draw(self) -> None:
        pictures = self._round(0, self._request, lambda picture: self._add(picture))
        if self._rounds == 2 and len(pictures) == self._request.number:
            # What the first round left open is settled now, so only the adapters differ.
            bare = replace(pictures[0].request, adapters=(), number=self._request.number)
            self._round(1, bare, self._pair)

    def _round(
        self, index: int, request: GenerateRequest, on_picture: Callable[[Picture], None]
    ) -> list[Picture]:
        if self._stop.is_set():
            return []

        def on_step(done: int, total: int) -> None:
            done, total = index * total + done, self._rounds * total
            spent = time.monotonic() - self._began
            self._show(done=done, total=total, left=spent / done * (total - done))

        return self._engine.generate(
            request,
            on_step=on_step,
            on_picture=on_picture,
            on_preview=lambda images: self._show(preview=tuple(images)),
            stop=self._stop,
        )

    def _add(self, picture: Picture) -> None:
        drawn = Drawn(self._save(picture, True), picture.request)
        self._show(drawn=(*self._view.drawn, drawn))

    def _pair(self, picture: Picture) -> None:
        path = self._save(picture, False)
        self._show(
            drawn=tuple(
                replace(drawn, without=path) if drawn.request.seed == picture.request.seed else drawn
                for drawn in self._view.drawn
            )
        )
