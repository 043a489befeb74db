"""Any picture that people have, opened rightly or refused with a reason; for training and for drawing."""

from __future__ import annotations

from .reading import FORMATS, SUFFIXES, Opened, Unusable, open_picture
from .unreadable import what_it_is, why_not_read

__all__ = ["FORMATS", "SUFFIXES", "Opened", "Unusable", "open_picture", "what_it_is", "why_not_read"]
