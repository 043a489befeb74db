"""The Draw tab: words and adapters on the left, what came of them on the right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from .adapter_rows import AdapterRows
from .draw_events import DrawEvents, Parts
from .fields import Fields, basics, details, words
from .form import Base, Form
from .kept import Kept
from .start_fields import StartFields
from .studio import Studio
from .visiting import Visit


@dataclass(frozen=True)
class DrawTab:
    """What the page wires to its own events: `rows.refresh` reads the library anew."""

    rows: AdapterRows
    kept: Kept

    def refresh_on(self, *triggers: Any) -> None:
        """Read the library anew whenever one of these events happens."""
        outputs = [self.rows.pick, self.rows.note]
        gr.on(
            list(triggers),
            self.rows.refresh,
            None,
            outputs,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )


def draw_tab(studio: Studio, visit: Visit) -> DrawTab:
    """Build the components inside the current tab, and connect them."""
    form = Form.empty(studio.base)
    with gr.Row(elem_classes="ls-halves"):
        with gr.Column(scale=5, min_width=320, elem_classes="ls-left"):
            made = words(form)
            with gr.Row(elem_classes="ls-go"):
                go = gr.Button("Draw", variant="primary", elem_id="go", scale=3)
                stop = gr.Button("Stop", variant="stop", elem_id="stop", scale=1, interactive=False)
            with gr.Group(elem_classes="ls-panel"):
                rows = AdapterRows(studio, visit, made["prompt"])
            made |= basics(form)
            compare = gr.Checkbox(
                False,
                label="Compare with and without adapters",
                info="Draws everything twice, with the same seeds.",
                elem_id="compare",
            )
            with gr.Accordion("More settings", open=False, elem_id="more"):
                made |= details(form)
            with gr.Accordion("Start from a picture", open=False, elem_id="start"):
                start = StartFields(studio, visit, form)
                made |= start.made
            drop = gr.File(
                label="Drop a picture here to get its settings back",
                file_types=[".png", ".jpg", ".jpeg", ".webp"],
                height=110,
                elem_id="drop",
            )
            remarks = gr.HTML(elem_id="remarks")
        with gr.Column(scale=6, min_width=320, elem_classes="ls-right"):
            stage = gr.HTML(_welcome(studio.base), elem_id="stage")
            slider = gr.ImageSlider(
                label="Without | with adapters", visible=False, type="filepath", elem_id="slider", height=420
            )
            gallery = gr.Gallery(
                label="Pictures",
                columns=4,
                object_fit="contain",
                height=420,
                preview=True,
                buttons=["download", "fullscreen"],
                interactive=False,
                elem_id="gallery",
                visible=False,
            )
            reuse = gr.Button("Use its seed again", size="sm", visible=False, elem_id="reuse")
            command = gr.Textbox(
                label="The same picture on the command line",
                interactive=False,
                buttons=["copy"],
                lines=2,
                max_lines=6,
                visible=False,
                elem_id="command",
            )
    parts = Parts(go, stop, compare, drop, remarks, stage, slider, gallery, reuse, command)
    fields = Fields(made)
    DrawEvents(studio, visit, fields, rows, start, parts).wire()
    return DrawTab(rows, Kept(studio, visit, fields, rows, remarks))


def _welcome(base: Base) -> str:
    own = (
        "<p>The base that is built in draws small icons. For photographs and paintings, start the page with "
        "another: <code>lorastyle ui --base FILE</code>.</p>"
    )
    return (
        '<div class="ls-welcome"><p>Your pictures appear here.</p>'
        "<p>Write what to draw, and press <b>Draw</b> or <kbd>Ctrl</kbd> + <kbd>Enter</kbd>.</p>"
        f"{own if base.name == 'embedded' else ''}</div>"
    )
