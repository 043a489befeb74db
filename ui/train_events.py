"""What happens in the Train tab: pictures come and go, a run is started, followed, stopped, gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from lorastyle.errors import LorastyleError
from lorastyle.train import RunStatus

from . import train_view
from .places import explain
from .stage import message
from .trainings import Prospect, TrainForm, Trainings, suggested_trigger
from .tray import Tray
from .visiting import Visit

EVERY, LIBRARY_EVERY = 1.0, 3.0  # seconds between two looks at the run, and at the library
MOST_SAMPLES, MOST_LINES = 24, 60
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

Shown = tuple[str, str, str]
"""What this page shows already, and is not sent again: a run, its plan and pictures, the names of all."""


@dataclass(frozen=True)
class Fields:
    """The components of `TrainForm`, in its order."""

    name: gr.Textbox
    trigger: gr.Textbox
    kind: gr.Radio
    shows: gr.Textbox
    steps: gr.Number
    rank: gr.Number

    @property
    def all(self) -> list[Any]:
        return list(self.__dict__.values())


@dataclass(frozen=True)
class RunParts:
    """The components that show a run."""

    runs: gr.Dropdown
    view: gr.HTML
    stop: gr.Button
    go_on: gr.Button
    samples: gr.Gallery
    planned: gr.Accordion
    plan: gr.HTML
    logged: gr.Accordion
    log: gr.Textbox

    @property
    def all(self) -> list[Any]:
        return list(self.__dict__.values())


class TrainEvents:
    """The handlers. They hold nothing of a run: all of it is read from its folder each time."""

    def __init__(
        self,
        trainings: Trainings,
        visit: Visit,
        fields: Fields,
        parts: RunParts,
        library: gr.State,
        shown: gr.State,
    ) -> None:
        self._trainings, self._visit, self._fields, self._parts = trainings, visit, fields, parts
        self._library, self._shown = library, shown
        self._outputs = [*parts.all, shown]

    def wire(self, drop: gr.File, tray: gr.HTML, plan: gr.HTML, start: gr.Button, problem: gr.HTML) -> None:
        """Connect the components."""
        fields, parts = self._fields, self._parts
        seen = [tray, plan, fields.name, fields.trigger, fields.shows]
        drop.upload(self.add, [drop, *fields.all], [drop, *seen], api_visibility="private")
        drop.upload(lambda: "", None, problem, **_QUIET)
        tray.click(self.remove, fields.all, seen, **_QUIET)
        gr.on(
            [
                *(fields.name.blur, fields.trigger.blur, fields.shows.blur),
                *(fields.kind.input, fields.steps.change, fields.rank.change),
            ],
            self.look,
            fields.all,
            seen,
            trigger_mode="always_last",
            **_QUIET,
        )
        started = start.click(
            self.start, [*fields.all, self._shown], [problem, *self._outputs], api_visibility="private"
        )
        started.success(None, None, None, js=_SHOW_RUN, api_visibility="private")
        for seen_again in (gr.Timer(EVERY).tick, parts.runs.input):
            seen_again(self.follow, [parts.runs, self._shown], self._outputs, **_QUIET)
        # In the queue: a state that changes outside of it is not heard by its listeners.
        gr.Timer(LIBRARY_EVERY).tick(
            self._trainings.shelf,
            None,
            self._library,
            show_progress="hidden",
            concurrency_limit=None,
            api_visibility="private",
        )
        parts.stop.click(self.stop, [parts.runs, self._shown], self._outputs, **_QUIET)
        parts.go_on.click(self.go_on, [parts.runs, self._shown], self._outputs, **_QUIET)

    def refresh_on(self, *triggers: Any) -> None:
        """Look for the run to show whenever one of these events happens."""
        gr.on(list(triggers), self.open, self._shown, self._outputs, **_QUIET)

    # pictures and fields

    def add(self, request: gr.Request, files: list[str], *values: Any) -> list[Any]:
        """Files were dropped: keep them, and empty the place for the next ones."""
        tray = self._tray(request)
        refused = tray.add(Path(file) for file in files or [])
        return [None, *self._seen(tray, values, refused)]

    def remove(self, request: gr.Request, event: gr.EventData, *values: Any) -> list[Any]:
        """A card's button was pressed."""
        tray, name = self._tray(request), getattr(event, "remove", None)
        if name == "*":
            tray.clear()
        else:
            tray.remove(name)
        return self._seen(tray, values)

    def look(self, request: gr.Request, *values: Any) -> list[Any]:
        """A field was changed: the prompts and the plan may be others."""
        return self._seen(self._tray(request), values)

    def _seen(self, tray: Tray, values: Sequence[Any], refused: Sequence[str] = ()) -> list[Any]:
        form = _form(values)
        prospect: Prospect = self._trainings.look(tray, form)
        return [
            train_view.tray(prospect, refused),
            train_view.plan(prospect),
            gr.Textbox(placeholder=prospect.name),
            gr.Textbox(placeholder=suggested_trigger(form.name or prospect.name)),
            gr.Textbox(visible=form.kind == "subject"),
        ]

    def _tray(self, request: gr.Request) -> Tray:
        return self._visit(request).tray

    # runs

    def start(self, request: gr.Request, *values: Any) -> list[Any]:
        """Start the training of these pictures."""
        *fields, shown = values
        try:
            name = self._trainings.start(self._tray(request), _form(fields))
        except LorastyleError as error:
            text = explain(error)
            return [message("error", "Not started.", text), *[gr.skip()] * len(self._outputs)]
        return ["", *self._show(name, ("", "", shown[2]))]

    def open(self, shown: Shown) -> list[Any]:
        """The page was opened or reloaded: the run at work, or else the newest."""
        names = self._trainings.names()
        return self._show(next(iter(self._trainings.active() or names), ""), shown)

    def follow(self, name: str | None, shown: Shown) -> list[Any]:
        """Now and then, and when another run was chosen."""
        return self._show(name or "", shown)

    def stop(self, name: str | None, shown: Shown) -> list[Any]:
        """End the run after its step."""
        self._trainings.stop(name or "")
        return self._show(name or "", shown)

    def go_on(self, name: str | None, shown: Shown) -> list[Any]:
        """Go on with a run that ended."""
        try:
            self._trainings.go_on(name or "")
        except LorastyleError as error:
            raise gr.Error(explain(error), print_exception=False) from error
        return self._show(name or "", shown)

    def _show(self, name: str, shown: Shown) -> list[Any]:
        names = self._trainings.names()
        name = name if name in names else next(iter(names), "")
        status = self._trainings.status(name)
        rows = () if status is None else status.rows
        pictures = "" if status is None else _stamp(status)
        now = (name, pictures, "\n".join(names))
        runs: Any = gr.skip()
        if (shown[0], shown[2]) != (now[0], now[2]):
            runs = gr.Dropdown(choices=names, value=name or None, visible=len(names) > 1)
        new = shown[:2] != now[:2]
        return [
            runs,
            train_view.run(status),
            gr.Button(visible=status is not None and status.active, interactive=not _stopping(status)),
            _go_on(status),
            _gallery(status) if new else gr.skip(),
            gr.Accordion(visible=bool(rows)) if new else gr.skip(),
            train_view.plan_rows(rows, name) if new else gr.skip(),
            gr.Accordion(visible=bool(name)),
            self._log(name),
            now,
        ]

    def _log(self, name: str) -> str:
        lines = self._trainings.printed(name).splitlines()
        return "\n".join(lines[-MOST_LINES:]) or "It was started on a terminal, which has its messages."


def _form(values: Sequence[Any]) -> TrainForm:
    name, trigger, kind, shows, steps, rank = values
    return TrainForm(
        name=str(name or "").strip(),
        trigger=str(trigger or "").strip(),
        kind=kind or "",
        class_name=str(shows or "").strip() if kind == "subject" else "",
        steps=steps,
        rank=rank,
    )


def _stopping(status: RunStatus | None) -> bool:
    return status is not None and status.stopping


def _go_on(status: RunStatus | None) -> Any:
    if status is None or status.state not in ("stopped", "failed", "crashed"):
        return gr.Button(visible=False)
    label = f"Go on from step {status.step}" if status.can_resume else "Start it again"
    return gr.Button(label, visible=True)


def _stamp(status: RunStatus) -> str:
    return "\n".join([str(status.rows), *(str(path) for path in _pictures(status))])


def _pictures(status: RunStatus) -> list[Path]:
    """The newest first: what came of it, then the samples."""
    sheet = [] if status.sheet is None else [status.sheet]
    return [*sheet, *reversed(status.samples)][:MOST_SAMPLES]


def _gallery(status: RunStatus | None) -> Any:
    """As pictures, not as paths: those lie outside of what the page hands out."""
    found: list[tuple[Image.Image, str]] = []
    for path in [] if status is None else _pictures(status):
        try:
            with Image.open(path) as picture:
                found.append((picture.convert("RGB"), _caption(path)))
        except OSError:  # it went away with the run that drew it
            continue
    return gr.Gallery(found, visible=bool(found))


def _caption(path: Path) -> str:
    step = path.stem.removeprefix("step-")
    return f"step {int(step):,}" if step.isdigit() else "without and with the adapter"


_SHOW_RUN = """() => {
  document.querySelector('#train-run')?.scrollIntoView({behavior: 'smooth', block: 'nearest'});
}"""
