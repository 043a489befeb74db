"""A number box that may be emptied, and whose value is judged by us."""

from __future__ import annotations

import gradio as gr

from gradio.events import Dependency

class NumberBox(gr.Number):
    """gradio's, without its own check: that one fails beyond the ends, and takes an emptied box for 0.

    `minimum` and `maximum` are for the box's arrows; whoever reads the value checks it.
    """

    is_template = True  # to the browser it is a number box

    def preprocess(self, payload: float | None) -> float | int | None:
        """The number as it was typed; None for none."""
        if not isinstance(payload, (int, float)) or isinstance(payload, bool) or payload != payload:
            return None
        whole = self.precision == 0 and abs(payload) < 2**63
        return round(payload) if whole else payload
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component