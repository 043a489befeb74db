"""A number box that may be emptied, and whose value is judged by us."""

from __future__ import annotations

from abc import ABCMeta
from typing import Any

import gradio as gr


def number_box(value: float | None, *, whole: bool = False, **settings: Any) -> gr.Number:
    """gradio's, without its own check, which fails beyond the ends and takes an emptied box for 0.

    `minimum` and `maximum` are for the box's arrows; whoever reads the value checks it. It is a number, or
    None for none.
    """
    return _Box(value, interactive=True, precision=0 if whole else None, **settings)


def _read(box: gr.Number, payload: object) -> float | None:
    if not isinstance(payload, (int, float)) or isinstance(payload, bool) or payload != payload:
        return None
    return round(payload) if box.precision == 0 and abs(payload) < 2**63 else payload


def _show(box: gr.Number, value: float | None) -> Any:
    return "" if value is None else value  # for None the page would write 0


# gradio makes a component anew with each update, so this has to be a class. Its metaclass would write a stub
# file beside this module for every class statement, so there is none.
_Box: Any = ABCMeta.__new__(
    type(gr.Number),
    "NumberBox",
    (gr.Number,),
    {"preprocess": _read, "postprocess": _show, "is_template": True},
)
