"""File names from prompts."""

from __future__ import annotations

import re


def slug(text: str, length: int = 48) -> str:
    """`A cat, sticker style!` -> `a-cat-sticker-style`: letters of any language, digits, hyphens."""
    words = re.sub(r"[\W_]+", "-", text.lower()).strip("-")
    return words[:length].rstrip("-") or "picture"
