"""What happens in the Draw tab: draw, stop, look at one picture, restore one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from lorastyle.errors import LorastyleError

from .adapter_rows import AdapterRows
from .drawing import Drawn, View
from .fields import NAMES, Fields, read, shown
from .places import explain
from .slots import rows_of
from .stage import bullets, message, stage
from .start_fields import StartFields
from .studio import Studio
from .visiting import Visit

_FAILED = message(
    "error", "Nothing was drawn.", "Try again in a while; the terminal that lorastyle runs in says more."
)
_TAKEN_BACK = message("note", "Stopped before its turn.", "Draw is free again once the queue is at it.")
MOST_KEPT = 60  # pictures in the gallery; all of them stay in the folder
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Parts:
    """The components besides the fields and the rows."""

    go: gr.Button
    stop: gr.Button
    compare: gr.Checkbox
    drop: gr.File
    remarks: gr.HTML
    stage: gr.HTML
    slider: gr.ImageSlider
    gallery: gr.Gallery
    reuse: gr.Button
    command: gr.Textbox


class DrawEvents:
    """The handlers. `history` is what this visitor drew, newest first; `chosen` is the one looked at."""

    def __init__(
        self,
        studio: Studio,
        visit: Visit,
        fields: Fields,
        rows: AdapterRows,
        start: StartFields,
        parts: Parts,
    ) -> None:
        self._studio, self._visit, self._start = studio, visit, start
        self._fields, self._rows, self._parts = fields, rows, parts
        self._history = gr.State(tuple[Drawn, ...]())
        self._chosen = gr.State(0)
        self._details = [parts.slider, parts.reuse, parts.command]

    def wire(self) -> None:
        """Connect the components."""
        parts, rows = self._parts, self._rows
        begin = parts.go.click(self.begin, None, [parts.go, parts.stop, parts.stage], **_QUIET)
        run = begin.then(
            self.draw,
            [parts.compare, rows.pick, self._history, *self._fields.all, *rows.values],
            [parts.stage, parts.gallery, self._fields.by_name["seed"], self._history],
            concurrency_id="gpu",
            concurrency_limit=1,
            show_progress="minimal",
            show_progress_on=parts.stage,
            api_name="draw",
        )
        run.then(self.end, self._history, [parts.go, parts.stop, self._chosen, *self._details], **_QUIET)
        # gradio's `then` is not run after what it could not hand on: a full queue, a failure of ours.
        run.failure(self.fail, None, [parts.go, parts.stop, parts.stage], **_QUIET)
        parts.stop.click(self.stop, None, [parts.stop, parts.stage], **_QUIET)
        parts.gallery.select(self.look, self._history, [self._chosen, *self._details], **_QUIET)
        seed = [self._fields.by_name["seed"], self._fields.by_name["locked"]]
        parts.reuse.click(self.reuse, [self._history, self._chosen], seed, **_QUIET)
        parts.drop.upload(
            self.restore,
            [parts.drop],
            [parts.drop, parts.remarks, *self._fields.all, *rows.outputs, *self._start.outputs],
            api_visibility="private",
        )

    def begin(self, request: gr.Request) -> list[Any]:
        """At once, before the queue: what Stop reaches from now on."""
        self._visit(request).queue_up()
        return [gr.Button(interactive=False), gr.Button("Stop", interactive=True), stage(View())]

    def draw(
        self,
        request: gr.Request,
        compare: bool,
        pick: list[str],
        history: tuple[Drawn, ...],
        *values: Any,
    ) -> Iterator[dict[Any, Any]]:
        """Draw, and show how far it is."""
        parts, seed = self._parts, self._fields.by_name["seed"]
        fields, rows = values[: len(NAMES)], rows_of(values[len(NAMES) :])
        shown_so_far: tuple[Drawn, ...] = ()
        try:
            form = read(fields, list(zip(pick or [], rows, strict=False)), self._studio.base)
            for view in self._studio.draw(self._visit(request), form, compare=compare):
                update: dict[Any, Any] = {parts.stage: stage(view)}
                if view.drawn != shown_so_far:
                    if not shown_so_far:
                        update[seed] = view.drawn[0].request.seed
                    shown_so_far = view.drawn
                    now = (*view.drawn, *history)[:MOST_KEPT]
                    update |= {parts.gallery: _gallery(now), self._history: now}
                yield update
        except LorastyleError as error:
            yield {parts.stage: message("error", "Nothing was drawn.", explain(error))}

    def end(self, history: tuple[Drawn, ...], request: gr.Request) -> list[Any]:
        """Whatever came of it: Draw can be pressed again, and the newest picture is looked at."""
        return [gr.Button(interactive=True), gr.Button(interactive=False), 0, *self._of(request, history, 0)]

    def fail(self) -> list[Any]:
        """The drawing never came, or broke off: Draw can be pressed again."""
        return [gr.Button(interactive=True), gr.Button("Stop", interactive=False), _FAILED]

    def stop(self, request: gr.Request) -> list[Any]:
        """Outside of the queue, so that it acts at once."""
        begun = self._visit(request).stop()
        shown = gr.skip() if begun else _TAKEN_BACK
        return [gr.Button("Stopping …", interactive=False), shown]

    def look(self, history: tuple[Drawn, ...], event: gr.SelectData, request: gr.Request) -> list[Any]:
        """A picture of the gallery was clicked."""
        index = event.index if isinstance(event.index, int) else 0
        return [index, *self._of(request, history, index)]

    def reuse(self, history: tuple[Drawn, ...], chosen: int) -> list[Any]:
        """Its seed, kept."""
        if not 0 <= chosen < len(history):
            return [gr.skip(), gr.skip()]
        return [history[chosen].request.seed, True]

    def restore(self, request: gr.Request, file: str) -> list[Any]:
        """Fill the fields from a dropped picture."""
        visitor, path = self._visit(request), Path(file)
        untouched = [gr.skip()] * (len(NAMES) + len(self._rows.outputs) + len(self._start.outputs))
        try:
            restored = self._studio.restore(visitor, path)
        except LorastyleError as error:
            return [None, message("error", "Nothing was restored.", explain(error)), *untouched]
        finally:
            path.unlink(missing_ok=True)
        done = message("note", "Settings restored.") if not restored.remarks else ""
        remarks = bullets("note", "Settings restored, but:", restored.remarks)
        ids = [id for id, _ in restored.form.adapters]
        memory = dict(restored.form.adapters)
        laid = self._rows.lay_out(ids, memory, self._studio.cards(visitor))
        started = self._start.lay_out(request, restored.form.init, restored.form.mask)
        return [None, done + remarks, *shown(restored.form), *laid, *started]

    def _of(self, request: gr.Request, history: Sequence[Drawn], index: int) -> list[Any]:
        """Updates of the details: the comparison, the seed's button, the command."""
        if not 0 <= index < len(history):
            return [gr.ImageSlider(visible=False), gr.Button(visible=False), gr.Textbox(visible=False)]
        drawn = history[index]
        pair = (str(drawn.without), str(drawn.path)) if drawn.without else None
        return [
            gr.ImageSlider(pair, visible=pair is not None),
            gr.Button(f"Use seed {drawn.request.seed} again", visible=True),
            gr.Textbox(self._studio.command(self._visit(request), drawn.request), visible=True),
        ]


def _gallery(history: Sequence[Drawn]) -> Any:
    pictures = [(str(drawn.path), f"seed {drawn.request.seed}") for drawn in history]
    return gr.Gallery(pictures, visible=True, selected_index=0)
