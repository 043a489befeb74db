"""The part of the Draw tab that says what to start from: a picture, its share, and a mask."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from lorastyle.errors import PictureError

from .fields import strength
from .form import Form
from .places import explain
from .stage import message
from .studio import Studio
from .visiting import Visit

_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_ENDINGS = [".png", ".jpg", ".jpeg", ".webp"]


class StartFields:
    """A zone to drop a picture into, which gives way to the picture; the same for a mask once there is one.

    The ids are kept on the server, in `gr.State`, so that a page can only name what was given to it.
    """

    def __init__(self, studio: Studio, visit: Visit, form: Form) -> None:
        self._studio, self._visit = studio, visit
        self.made: dict[str, Any] = {"init": gr.State(""), "mask": gr.State("")}
        self._init = _zone("init", "Drop the picture to start from")
        self.made |= strength(form)
        self._mask = _zone("mask", "Mask (white: anew)", visible=False)
        self._problem = gr.HTML(elem_id="start-problem")
        self.outputs = [*self._init.values(), *self._mask.values(), self._problem]
        states = [self.made["init"], self.made["mask"]]
        for kind, zone in (("init", self._init), ("mask", self._mask)):
            zone["drop"].upload(
                self._taker(kind), [zone["drop"], *states], [*states, *self.outputs], **_QUIET
            )
            zone["remove"].click(self._remover(kind), states, [*states, *self.outputs], **_QUIET)

    def lay_out(self, request: gr.Request, init: str, mask: str) -> list[Any]:
        """The zones for these ids: a picture where there is one."""
        held = self._studio.starts(self._visit(request))
        updates: list[Any] = []
        for id, shown in ((init, True), (mask, bool(init))):
            start = held.get(id) if shown else None
            card = f'<img src="{start.thumbnail}" alt=""><span>{escape(start.name)}</span>' if start else ""
            updates += [
                gr.File(None, visible=shown and start is None),
                gr.HTML(f'<div class="ls-start">{card}</div>' if card else "", visible=start is not None),
                gr.Button(visible=start is not None),
            ]
        return [*updates, ""]

    def _taker(self, kind: str) -> Any:
        def take(request: gr.Request, file: str, init: str, mask: str) -> list[Any]:
            ids = {"init": init, "mask": mask}
            problem = ""
            try:
                ids[kind] = self._studio.take_start(self._visit(request), Path(file)).id
            except PictureError as error:
                problem = message("error", "Not taken.", explain(error))
            return [*ids.values(), *self.lay_out(request, **ids)[:-1], problem]

        return take

    def _remover(self, kind: str) -> Any:
        def remove(request: gr.Request, init: str, mask: str) -> list[Any]:
            # A mask belongs to its picture, and goes with it.
            init = init if kind == "mask" else ""
            return [init, "", *self.lay_out(request, init, "")]

        return remove


def _zone(id: str, label: str, *, visible: bool = True) -> dict[str, Any]:
    what = {"init": "the picture to start from", "mask": "the mask"}[id]
    return {
        "drop": gr.File(label=label, file_types=_ENDINGS, height=96, elem_id=id, visible=visible),
        "shown": gr.HTML(visible=False, elem_id=f"{id}-shown"),
        "remove": gr.Button(
            f"Take out {what}", size="sm", visible=False, elem_id=f"{id}-remove", elem_classes="ls-out"
        ),
    }
