"""Three small folders of pictures to try lorastyle on, installed with it as `lorastyle.samples`.

    folder("sticker")     12 neon stickers with thick outlines: a style
    folder("ink")         12 drawings in black and white: another style
    folder("blob")        5 moods of one character: a subject

Sources and licences: README.md here. `make.py` makes the pictures again.
"""

from __future__ import annotations

from pathlib import Path

from lorastyle.errors import ConfigError, near_miss

__all__ = ["NAMES", "folder"]

NAMES: tuple[str, ...] = ("blob", "ink", "sticker")


def folder(name: str) -> Path:
    """The folder of one sample. Raises ConfigError for a name that is not in `NAMES`."""
    if name not in NAMES:
        raise ConfigError(
            f'there is no sample "{name}"; there are {", ".join(NAMES)}.{near_miss(name, NAMES)}'
        )
    return Path(__file__).parent / name
