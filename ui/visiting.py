"""From a request of the page to its visitor."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from .visitors import Visitor, Visitors

Visit = Callable[[gr.Request], Visitor]


def visiting(visitors: Visitors) -> Visit:
    """A function that finds who sent a request, by the session of the page."""

    def visit(request: gr.Request) -> Visitor:
        if not request.session_hash:
            raise gr.Error("This page has no session. Reload it.", print_exception=False)
        return visitors.get(request.session_hash)

    return visit
