"""File names from prompts, and sizes from text."""

from __future__ import annotations

import re
from pathlib import Path

from lorastyle.errors import ConfigError


def slug(text: str, length: int = 48) -> str:
    """`A cat, sticker style!` -> `a-cat-sticker-style`: letters of any language, digits, hyphens."""
    words = re.sub(r"[\W_]+", "-", text.lower()).strip("-")
    return words[:length].rstrip("-") or "picture"


def names_one_file(out: Path) -> bool:
    """Whether `--out` is a picture's name rather than a folder's."""
    return out.suffix.lower() == ".png"


def near(path: Path) -> str:
    """The path as seen from here, where it lies below; else in full."""
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else str(path)


def parse_size(text: str | None) -> tuple[int | None, int | None]:
    """`128x96` -> (128, 96), `128` -> (128, 128), None -> (None, None). Raises ConfigError."""
    if text is None:
        return None, None
    found = re.fullmatch(r"(\d{1,6})(?:[xX](\d{1,6}))?", text.strip())
    if found is None:
        raise ConfigError(f'--size is "{text}"; write WIDTHxHEIGHT in pixels, such as 128x96, or one number.')
    width = int(found[1])
    return width, int(found[2]) if found[2] else width
