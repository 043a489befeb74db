"""What stands in the Draw tab outlives a reload of the page, and a restart of the server.

The browser keeps it, for the one tab that it stands in; what comes back is read as if a stranger had sent it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from .adapter_rows import AdapterRows
from .fields import NAMES, Fields
from .slots import SLOTS, Row, rows_of
from .stage import message
from .studio import Studio
from .visiting import Visit

_ON_THE_SERVER = ("init", "mask")  # pictures, which leave with the page
_KEPT = tuple(name for name in NAMES if name not in _ON_THE_SERVER)
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
UPLOADS_LEFT = "Adapters that were uploaded went with the page before; upload them again."

_KEEP = "(...values) => { window.lorastyle.keep(values); }"
_GIVE_BACK = "() => [window.lorastyle.kept()]"


class Kept:
    """The fields' values and the rows, in the browser's store of this tab."""

    def __init__(
        self, studio: Studio, visit: Visit, fields: Fields, rows: AdapterRows, remarks: gr.HTML
    ) -> None:
        self._studio, self._visit, self._rows, self._remarks = studio, visit, rows, remarks
        self._fields = [fields.by_name[name] for name in _KEPT]
        self._text = gr.Textbox(visible=False)
        every = [*self._fields, rows.pick, *rows.values]
        # What an event of the server changes counts too: the seed that was drawn, the rows of a picture.
        gr.on([part.change for part in every], None, every, None, js=_KEEP, **_QUIET)

    def bring_back_on(self, *triggers: Any) -> None:
        """Fill the fields whenever one of these events happens, with what stood there."""
        outputs = [*self._fields, *self._rows.outputs, self._remarks]
        gr.on(list(triggers), self.bring_back, self._text, outputs, js=_GIVE_BACK, **_QUIET)

    def bring_back(self, request: gr.Request, text: str) -> list[Any]:
        """Updates for what the browser kept; none where it kept nothing that can be read."""
        kept = _read(text)
        if kept is None:
            return [gr.skip()] * (len(_KEPT) + len(self._rows.outputs) + 1)
        values, ids, rows = kept
        cards = self._studio.cards(self._visit(request))
        laid = self._rows.lay_out(ids, dict(zip(ids, rows, strict=False)), cards)
        gone = any(id.startswith("upload-") and id not in cards for id in ids)
        return [*values, *laid, message("note", UPLOADS_LEFT) if gone else ""]


def _read(text: object) -> tuple[Sequence[Any], list[str], list[Row]] | None:
    """(values of the fields, ids of the adapters, their rows), or None where the text is not ours."""
    try:
        found: Any = json.loads(text) if isinstance(text, str) else None
        values, ids, rows = found[: len(_KEPT)], found[len(_KEPT)], found[len(_KEPT) + 1 :]
        if len(rows) != 2 * SLOTS or not all(isinstance(id, str) for id in ids):
            return None
        plain = all(value is None or isinstance(value, (str, int, float)) for value in values)
        return (values, list(ids), rows_of(rows)) if plain else None
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
