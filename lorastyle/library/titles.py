"""Which names adapters may have, and when two of them are one."""

from __future__ import annotations

import unicodedata

from lorastyle.errors import ConfigError, shortened

from .folders import SUFFIX

_MOST_BYTES = 200  # file systems allow 255; the longest end of a file beside it, and some room, go off that
# What Windows keeps for devices, whatever follows the first dot.
_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)))
)


def bare(name: str) -> str:
    """Without ".safetensors", in whatever case."""
    return name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) else name


def alike(name: str) -> str:
    """Equal for names that are one name on some file system: in case, or in how accents are written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def checked_name(name: str) -> str:
    """A name that every system and the command line can say, without ".safetensors".

    Raises:
        ConfigError: it is not.
    """
    name = unicodedata.normalize("NFC", bare(name.strip()))
    shown = shortened(name)
    bad = next((letter for letter in name if letter in '<>:"/\\|?*' or not letter.isprintable()), None)
    if bad is not None:
        raise ConfigError(f"{shown} is no name for an adapter: {bad!r} cannot be in it.")
    if not name or name.startswith((".", "-", "~")) or name.endswith((".", " ")):
        raise ConfigError(
            f"{shown} is no name for an adapter: it is empty, starts with a dot, a dash or a tilde, or ends "
            "with a dot."
        )
    if len(name.encode()) > _MOST_BYTES:
        raise ConfigError(f"{shown} is no name for an adapter: it has more than {_MOST_BYTES} bytes.")
    if name.split(".")[0].strip().lower() in _DEVICES:
        raise ConfigError(f"{shown} is no name for an adapter: Windows means a device by it.")
    return name
