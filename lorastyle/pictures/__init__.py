"""Any picture that people have, opened rightly or refused with a reason; and words on pictures."""

from __future__ import annotations

from .heat_map import heat_map
from .lettering import Line, fit_text
from .paper import GREY, INK, Paper, line_height
from .reading import FORMATS, SUFFIXES, Opened, Unusable, open_picture
from .unreadable import what_it_is, why_not_read

__all__ = [
    "FORMATS",
    "GREY",
    "INK",
    "SUFFIXES",
    "Line",
    "Opened",
    "Paper",
    "Unusable",
    "fit_text",
    "heat_map",
    "line_height",
    "open_picture",
    "what_it_is",
    "why_not_read",
]
