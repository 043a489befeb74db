"""The Train tab: pictures and settings on the left, the run on the right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from .number_box import number_box
from .train_events import Fields, RunParts, TrainEvents
from .train_view import run
from .trainings import NAMED, Trainings, suggested_trigger
from .visiting import Visit

KINDS = [("Decide for me", ""), ("A style", "style"), ("One thing", "subject")]
_REMOVE = """element.addEventListener('click', event => {
  const button = event.target.closest('[data-remove]');
  if (button) trigger('click', {remove: button.dataset.remove});
});"""


@dataclass(frozen=True)
class TrainTab:
    """What the page wires to its own events.

    Attributes:
        library: its `.change` says that an adapter of the library came, went or changed.
    """

    library: gr.State
    events: TrainEvents

    def refresh_on(self, *triggers: Any) -> None:
        """Show the run that is at work, or the newest, whenever one of these events happens."""
        self.events.refresh_on(*triggers)


def train_tab(trainings: Trainings, visit: Visit) -> TrainTab:
    """Build the components inside the current tab, and connect them. Styles are in train.css."""
    with gr.Row(elem_classes="ls-halves"):
        with gr.Column(scale=5, min_width=320, elem_classes="ls-left"):
            drop = gr.File(
                label="Pictures, and captions as .txt if you like",
                file_count="multiple",
                height=160,
                elem_id="train-drop",
            )
            tray = gr.HTML(elem_id="train-tray", js_on_load=_REMOVE)
            fields = _fields()
            plan = gr.HTML(elem_id="train-plan")
            start = gr.Button("Start training", variant="primary", elem_id="train-start")
            problem = gr.HTML(elem_id="train-problem")
        with gr.Column(scale=6, min_width=320, elem_classes="ls-right", elem_id="train-right"):
            parts = _run_parts()
    library, shown = gr.State(trainings.shelf()), gr.State(("", "", ""))
    events = TrainEvents(trainings, visit, fields, parts, library, shown)
    events.wire(drop, tray, plan, start, problem)
    return TrainTab(library, events)


def _fields() -> Fields:
    with gr.Row():
        name = gr.Textbox(label="Name", placeholder=NAMED, max_length=80, elem_id="train-name", min_width=140)
        trigger = gr.Textbox(
            label="Trigger word",
            placeholder=suggested_trigger(NAMED),
            max_length=80,
            elem_id="train-trigger",
            min_width=140,
        )
    with gr.Row():
        kind = gr.Radio(
            KINDS,
            value="",
            label="What the pictures share",
            interactive=True,
            elem_id="train-kind",
            min_width=200,
        )
        shows = gr.Textbox(
            label="They show a …",
            placeholder="cat, face, chair",
            max_length=80,
            elem_id="train-class",
            visible=False,
            min_width=140,
        )
    with gr.Accordion("Advanced", open=False, elem_id="train-more"), gr.Row():
        settings: dict[str, Any] = {"whole": True, "min_width": 140}
        steps = number_box(
            None, label="Steps", placeholder="from the pictures", elem_id="train-steps", **settings
        )
        rank = number_box(None, label="Rank", placeholder="from the base", elem_id="train-rank", **settings)
    return Fields(name, trigger, kind, shows, steps, rank)


def _run_parts() -> RunParts:
    runs = gr.Dropdown(
        label="Training", choices=[], value=None, visible=False, interactive=True, elem_id="train-runs"
    )
    view = gr.HTML(run(None), elem_id="train-run")
    with gr.Row():
        stop = gr.Button("Stop and keep what there is", variant="stop", visible=False, elem_id="train-stop")
        go_on = gr.Button("Go on", visible=False, elem_id="train-go-on")
    samples = gr.Gallery(
        label="Samples",
        columns=1,
        object_fit="contain",
        format="png",
        interactive=False,
        visible=False,
        buttons=["download", "fullscreen"],
        elem_id="train-samples",
    )
    with gr.Accordion("Plan of this training", open=False, visible=False, elem_id="train-planned") as planned:
        plan = gr.HTML(elem_id="train-run-plan")
    with gr.Accordion("Log", open=False, visible=False, elem_id="train-log-part") as logged:
        log = gr.Textbox(
            show_label=False, lines=10, max_lines=10, interactive=False, autoscroll=True, elem_id="train-log"
        )
    return RunParts(runs, view, stop, go_on, samples, planned, plan, logged, log)
