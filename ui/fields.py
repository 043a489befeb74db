"""The fields of the Draw tab, in the order of `Form`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lorastyle.errors import ConfigError
from lorastyle.generate import SCHEDULERS

from .form import MOST_PICTURES, MOST_PIXELS, MOST_STEPS, OWN_SCHEDULER, Base, Form
from .number_box import number_box
from .slots import Row

NAMES = (
    "prompt", "negative", "seed", "locked", "number", "width", "height", "steps", "guidance", "scheduler",
    "clip_skip", "rescale", "hires", "hires_strength", "init", "strength", "mask",
)  # fmt: skip


@dataclass(frozen=True)
class Fields:
    """The components, by the names of `Form`."""

    by_name: dict[str, Any]

    @property
    def all(self) -> list[Any]:
        return [self.by_name[name] for name in NAMES]


def words(form: Form) -> dict[str, Any]:
    """Prompt and negative prompt."""
    return {
        "prompt": gr.Textbox(
            form.prompt,
            label="Prompt",
            placeholder="What to draw, such as: a cat",
            lines=3,
            max_lines=10,
            autofocus=True,
            elem_id="prompt",
        ),
        "negative": gr.Textbox(
            form.negative,
            label="Negative prompt",
            placeholder="What to keep out of the picture",
            lines=1,
            max_lines=6,
            elem_id="negative",
        ),
    }


def basics(form: Form) -> dict[str, Any]:
    """Seed, number, size."""
    made: dict[str, Any] = {}
    with gr.Row(elem_classes="ls-fields"):
        made["seed"] = _whole("seed", _seed(form))
        made["locked"] = gr.Checkbox(
            form.locked,
            label="Keep",
            show_label=False,
            min_width=80,
            elem_id="locked",
            elem_classes="ls-lock",
        )
        made["number"] = _whole("number", form.number)
    with gr.Row(elem_classes="ls-fields"):
        made["width"] = _whole("width", form.width, step=8)
        made["height"] = _whole("height", form.height, step=8)
        made["steps"] = _whole("steps", form.steps)
    made["seed"].input(None, None, made["locked"], js="() => true", api_visibility="private")
    return made


def details(form: Form) -> dict[str, Any]:
    """What most people leave as it is."""
    made: dict[str, Any] = {}
    own = ("the base's own", OWN_SCHEDULER)
    with gr.Row(elem_classes="ls-fields"):
        made["guidance"] = _real("guidance", form.guidance, step=0.5)
        made["scheduler"] = gr.Dropdown(
            [own, *((name, name) for name in SCHEDULERS)],
            value=form.scheduler,
            label="Scheduler",
            min_width=150,
            elem_id="scheduler",
        )
    with gr.Row(elem_classes="ls-fields"):
        made["clip_skip"] = _whole("clip_skip", form.clip_skip)
        made["rescale"] = _real("rescale", form.rescale, step=0.1, placeholder="base's own")
    with gr.Row(elem_classes="ls-fields"):
        made["hires"] = _real("hires", form.hires, step=0.5)
        made["hires_strength"] = _real("hires_strength", form.hires_strength, step=0.1, placeholder="0.4")
    return made


def strength(form: Form) -> dict[str, Any]:
    """How much of a picture to start from is drawn anew."""
    return {
        "strength": number_box(
            form.strength, label="How much is drawn anew",
            info="Near 0 keeps it, 1 leaves nothing of it; at 0.6 the base decides.",
            minimum=0.01, maximum=1, step=0.05, placeholder="0.6", elem_id="strength",
        )
    }  # fmt: skip


RANDOM = -1  # as in A1111
LIMITS: dict[str, tuple[str, float, float]] = {
    "seed": ("Seed (-1: random)", RANDOM, 2**53 - 1),
    "number": ("Pictures", 1, MOST_PICTURES),
    "width": ("Width", 16, MOST_PIXELS),
    "height": ("Height", 16, MOST_PIXELS),
    "steps": ("Steps", 1, MOST_STEPS),
    "guidance": ("Guidance", 0, 100),
    "clip_skip": ("Clip skip", 1, 12),
    "rescale": ("Guidance rescale", 0, 1),
    "hires": ("Enlarge and refine", 1, 4),
    "hires_strength": ("Redrawn share", 0.01, 1),
    "strength": ("How much is drawn anew", 0.01, 1),
}
"""{field: (its label, the least and the most that this page draws)}"""


def read(values: Sequence[Any], adapters: Sequence[tuple[str, Row]], base: Base) -> Form:
    """The form of the components' values. An emptied number is the one that stood there at first.

    Raises:
        ConfigError: numbers beyond the page's limits, all of them.
    """
    first = Form.empty(base)
    given: dict[str, Any] = dict(zip(NAMES, values, strict=True))
    if given["seed"] == RANDOM:
        given["seed"] = None
    problems = [
        f"{label} is {given[name]:g}; {low:g} to {high:g} can be drawn here."
        for name, (label, low, high) in LIMITS.items()
        if given[name] is not None and not low <= given[name] <= high
    ]
    if problems:
        raise ConfigError(problems)
    return Form(
        **{name: getattr(first, name) if value is None else value for name, value in given.items()},
        adapters=tuple(adapters),
    )


def shown(form: Form) -> list[Any]:
    """The components' values for a form."""
    return [_seed(form) if name == "seed" else getattr(form, name) for name in NAMES]


def _seed(form: Form) -> int:
    return RANDOM if form.seed is None else form.seed


def _whole(id: str, value: int | None, *, step: int = 1, placeholder: str = "") -> Any:
    label, low, high = LIMITS[id]
    return number_box(
        value, label=label, minimum=low, maximum=high, step=step, whole=True, placeholder=placeholder,
        min_width=90, elem_id=id
    )  # fmt: skip


def _real(id: str, value: float | None, *, step: float, placeholder: str = "") -> Any:
    label, low, high = LIMITS[id]
    return number_box(
        value, label=label, minimum=low, maximum=high, step=step, placeholder=placeholder,
        min_width=120, elem_id=id
    )  # fmt: skip
