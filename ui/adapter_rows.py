"""The rows of adapters: which, on or off, how strong. A fixed pool of rows (see `slots.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from lorastyle.errors import AdapterError

from .number_box import number_box
from .places import explain
from .shelf import Card, Cards
from .slots import SCALE, SLIDER, SLOTS, Memory, Row, on_slider, remember, rows_of, with_trigger
from .stage import bullets, message
from .studio import Studio
from .visiting import Visit

_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
NOTHING_YET = (
    "Train one in the Train tab, put a .safetensors file into the folder adapters, or upload one here. "
    "Drawing works without one, too."
)


class AdapterRows:
    """The picker, the upload button and the rows, with what happens between them.

    Attributes:
        pick: the dropdown of adapters; its value is the list of ids.
        values: on, scale, on, scale, ... of all rows, as inputs of an event.
        state: `shown`, the ids that stand in the rows, and `memory`, what was set for adapters that left.
        outputs: what `lay_out` gives values for.
    """

    def __init__(self, studio: Studio, visit: Visit, prompt: gr.Textbox) -> None:
        self._studio, self._visit = studio, visit
        self.shown = gr.State(list[str]())
        self.memory = gr.State(dict[str, Row]())
        self.pick = gr.Dropdown(
            [], value=[], label="Adapters", multiselect=True, max_choices=SLOTS, interactive=True,
            elem_id="pick",
            info="Pick up to eight; each gets a row with its strength.",
        )  # fmt: skip
        self.note = gr.HTML(elem_id="adapters-note")
        self._slots = [_slot(i) for i in range(SLOTS)]
        self.upload = gr.UploadButton(
            "Upload adapters (.safetensors)", file_types=[".safetensors"], file_count="multiple", size="sm",
            elem_id="upload",
        )  # fmt: skip
        self.values: list[Any] = [c for slot in self._slots for c in (slot["on"], slot["scale"])]
        self.state: list[Any] = [self.shown, self.memory]
        parts = ("box", "on", "slider", "scale", "trigger", "remove")
        self.outputs: list[Any] = [self.pick, *self.state, *(s[part] for s in self._slots for part in parts)]
        self._wire(prompt)

    def lay_out(self, ids: Sequence[str], memory: Memory, cards: Cards) -> list[Any]:
        """Updates that put `ids` into the rows, as `memory` has them."""
        ids = [id for id in ids if id in cards][:SLOTS]
        updates: list[Any] = [gr.Dropdown(choices=_choices(cards), value=ids), ids, dict(memory)]
        for i in range(SLOTS):
            card = cards[ids[i]] if i < len(ids) else None
            updates += _hidden() if card is None else _filled(card, memory.get(card.id, Row()))
        return updates

    def refresh(self, request: gr.Request) -> list[Any]:
        """The picker and the note for what lies in the library now. Rows stay as they are."""
        cards = self._studio.cards(self._visit(request))
        refused = self._studio.shelf.look()[1]
        note = message("note", "No adapters yet.", NOTHING_YET) if not cards else ""
        note += bullets("note", "Not for this base, or damaged:", [r.why for r in refused])
        return [gr.Dropdown(choices=_choices(cards), visible=bool(cards)), note]

    def _wire(self, prompt: gr.Textbox) -> None:
        inputs = [*self.state, *self.values]
        self.pick.input(
            self._picked, [self.pick, *inputs], self.outputs, trigger_mode="always_last", **_QUIET
        )
        self.upload.upload(
            self._uploaded, [self.upload, *inputs], [*self.outputs, self.note], api_visibility="private"
        )
        for i, slot in enumerate(self._slots):
            self._wire_slot(i, slot, prompt, inputs)

    def _wire_slot(self, i: int, slot: dict[str, Any], prompt: gr.Textbox, inputs: list[Any]) -> None:
        # The number is the truth and the slider a view of it: both in the browser, at once.
        slot["slider"].input(None, slot["slider"], slot["scale"], js="v => v", **_QUIET)
        low, high = SLIDER
        clamp = f"v => Math.min({high}, Math.max({low}, v ?? 1))"
        slot["scale"].input(None, slot["scale"], slot["slider"], js=clamp, **_QUIET)

        def removed(request: gr.Request, shown: list[str], memory: dict[str, Row], *values: Any) -> list[Any]:
            left = [id for at, id in enumerate(shown) if at != i]
            return self._picked(request, left, shown, memory, *values)

        def inserted(request: gr.Request, prompt: str, shown: list[str]) -> str:
            cards = self._studio.cards(self._visit(request))
            card = cards.get(shown[i]) if i < len(shown) else None
            return with_trigger(prompt, card.trigger) if card else prompt

        slot["remove"].click(removed, inputs, self.outputs, **_QUIET)
        slot["trigger"].click(inserted, [prompt, self.shown], prompt, **_QUIET)

    def _picked(
        self, request: gr.Request, ids: list[str], shown: list[str], memory: dict[str, Row], *values: Any
    ) -> list[Any]:
        cards = self._studio.cards(self._visit(request))
        return self.lay_out(ids or [], remember(memory, shown, rows_of(values)), cards)

    def _uploaded(
        self, request: gr.Request, files: list[str], shown: list[str], memory: dict[str, Row], *values: Any
    ) -> list[Any]:
        visitor = self._visit(request)
        problems: list[str] = []
        ids = list(shown)
        for file in files:
            try:
                verdict = self._studio.take_in(visitor, Path(file))
            except AdapterError as error:
                problems.append(explain(error))
                continue
            if isinstance(verdict, Card):
                ids.append(verdict.id)
            else:
                problems.append(verdict.why)
        if len(ids) > SLOTS:
            problems.append(f"There are {SLOTS} rows: pick the others from the list in place of some.")
        laid = self.lay_out(ids, remember(memory, shown, rows_of(values)), self._studio.cards(visitor))
        return [*laid, bullets("error", "Not taken:", problems)]


def _slot(i: int) -> dict[str, Any]:
    """A row's components. Interactive is said, or those with a value would not be."""
    made: dict[str, Any] = {}
    with gr.Column(visible=False, elem_classes="ls-adapter", elem_id=f"row{i}", min_width=0) as made["box"]:
        with gr.Row(elem_classes="ls-adapter-head"):
            made["on"] = gr.Checkbox(
                True, label="", container=False, interactive=True, min_width=80, elem_id=f"on{i}"
            )
            made["trigger"] = gr.Button(
                "", size="sm", min_width=0, elem_classes="ls-chip", elem_id=f"trigger{i}"
            )
            made["remove"] = gr.Button(
                "Take out", size="sm", min_width=0, elem_classes="ls-quiet", elem_id=f"remove{i}"
            )
        with gr.Row(elem_classes="ls-adapter-scale"):
            made["slider"] = gr.Slider(
                *SLIDER,
                value=1,
                step=0.05,
                interactive=True,
                container=False,
                min_width=100,
                elem_id=f"slider{i}",
            )
            made["scale"] = number_box(
                1, minimum=SCALE[0], maximum=SCALE[1], step=0.05, show_label=False, container=False,
                min_width=70, elem_id=f"scale{i}", label="Scale",
            )  # fmt: skip
    return made


def _hidden() -> list[Any]:
    return [gr.Column(visible=False), gr.Checkbox(), gr.Slider(), gr.Number(), gr.Button(), gr.Button()]


def _filled(card: Card, row: Row) -> list[Any]:
    return [
        gr.Column(visible=True),
        gr.Checkbox(label=card.title, value=row.on),
        gr.Slider(label=f"Scale of {card.title}", value=on_slider(row.scale)),
        gr.Number(label=f"Scale of {card.title}", value=row.scale),
        gr.Button(f"+ {card.trigger}", visible=bool(card.trigger)),
        gr.Button(f"Take out {card.title}"),
    ]


def _choices(cards: Cards) -> list[tuple[str, str]]:
    return [(card.title, card.id) for card in cards.values()]
