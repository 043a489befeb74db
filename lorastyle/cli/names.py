"""What is written to, and sizes from text."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from lorastyle.errors import ConfigError, shortened

_OTHER_PICTURES = frozenset({".bmp", ".gif", ".tif", ".tiff", ".avif", ".jxl", ".heic"})
MOST_DIGITS = 18  # what fits into 64 bits, whatever the digits


def names_one_file(out: Path) -> bool:
    """Whether `--out` is a picture's name rather than a folder's."""
    from lorastyle.generate import PICTURE_FORMATS  # here: `near` is for commands that draw nothing, too

    return out.suffix.lower() in PICTURE_FORMATS and not out.is_dir()


def whole(_type: object, tokens: Sequence[Token]) -> int:
    """A flag's whole number; 2.5 is none, rather than 2."""
    text = tokens[0].value
    if not re.fullmatch(r"[+-]?\d+", text):
        raise ValueError(f'"{text}" is no whole number.')
    if len(text.lstrip("+-")) > MOST_DIGITS:
        raise ValueError(f"{shortened(text, 30)} is too long; at most {MOST_DIGITS} digits are read.")
    return int(text)


Whole = Annotated[int, Parameter(converter=whole)]


def check_out(out: Path) -> None:
    """Can pictures be written there? Asked before anything slow.

    Raises:
        ConfigError: another kind of picture, a file in the place of the folder, a folder that cannot be
            written.
    """
    if out.suffix.lower() in _OTHER_PICTURES and not out.is_dir():
        raise ConfigError(
            f"--out {out}: pictures are saved as PNG, JPEG or WebP. Name it {out.stem}.png, or a folder."
        )
    folder = out.parent if names_one_file(out) else out
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        why = "it is a file" if there.is_file() else error.strerror or error
        where = "this folder" if there == Path.cwd() else near(there)
        raise ConfigError(
            f"--out {out}: {where} cannot be written to ({why}). Name another folder."
        ) from error


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
