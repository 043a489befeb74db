"""A number box that may be emptied, and whose value is judged by us."""

from __future__ import annotations

from typing import Any

import gradio as gr


def number_box(value: float | None, *, whole: bool = False, **settings: Any) -> gr.Number:
    """gradio's, without its own check, which fails beyond the ends and takes an emptied box for 0.

    `minimum` and `maximum` are for the box's arrows; whoever reads the value checks it. It is a number, or
    None for none. (A class of its own would have gradio write a stub file beside this one.)
    """

    def preprocess(payload: object) -> float | None:
        if not isinstance(payload, (int, float)) or isinstance(payload, bool) or payload != payload:
            return None
        return round(payload) if whole and abs(payload) < 2**63 else payload

    box = gr.Number(value, interactive=True, precision=0 if whole else None, **settings)
    box.preprocess = preprocess
    return box
