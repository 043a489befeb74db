"""Which base is meant when none is named, and how it is kept in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import cast

from lorastyle.errors import ConfigError, near_miss
from lorastyle.library import home
from lorastyle.text_files import decode_text

from .memory import AUTO, FOR_DRAWING

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "lorastyle.toml"
KEYS = ("base", "memory")


def default_base() -> str:
    """LORASTYLE_BASE, else `base` in ./lorastyle.toml or the one in LORASTYLE_HOME, else "embedded".

    A relative path in such a file starts at the file.

    Raises:
        ConfigError: a file that is there cannot be read, or holds something else.
    """
    if named := os.environ.get("LORASTYLE_BASE"):
        return named
    for file in _files():
        if named := _base_in(file):
            return named
    return "embedded"


def default_memory(allowed: Collection[str] = FOR_DRAWING) -> str:
    """`memory` in ./lorastyle.toml or the one in LORASTYLE_HOME, else "auto".

    It is how the machine is used, and not what is drawn, so no picture records it.

    Args:
        allowed: "auto" stands for a mode that is not among them; see `FOR_TRAINING`.

    Raises:
        ConfigError: as `default_base`.
    """
    named = next((str(mode) for file in _files() if (mode := _read(file).get("memory"))), AUTO)
    return named if named in allowed else AUTO


def _files() -> Iterator[Path]:
    """The nearest first."""
    return (file for file in (Path(FILE), home() / FILE) if file.is_file())


def _base_in(file: Path) -> str | None:
    base = _read(file).get("base")
    beside = file.parent / str(base) if base else None
    return str(beside) if beside is not None and beside.exists() else cast("str | None", base)


def toml_advice(error: ValueError) -> str:
    """What the parser says of a TOML file, and what to write instead.

    It complains of an escape where somebody wrote a path of Windows in double quotes.
    """
    why = str(error)
    if any(part in why for part in ("escape", "hex value", "Unescaped")) or "\\" in why:
        return (
            f"{why}. In double quotes a backslash begins an escape. Write a path in single quotes "
            "('C:\\images'), or with forward slashes."
        )
    return f"{why}. Write one setting a line, such as steps = 600, and texts in quotes."


def _read(file: Path) -> Mapping[str, object]:
    """What a file says; every problem at once."""
    try:
        content = tomllib.loads(decode_text(file.read_bytes()).text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {toml_advice(error)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read ({error}). Mend it, or name a base with --base.") from error
    problems = [
        f"{file}: {key} is no key of this file.{near_miss(key, KEYS) or ' There are base and memory.'}"
        for key in content.keys() - set(KEYS)
    ]
    base = content.get("base")
    if base is not None and not (isinstance(base, str) and base.strip()):
        problems.append(f'{file}: base is {base!r}; a text is needed, such as base = "./my-model".')
    memory = content.get("memory", AUTO)
    if memory not in FOR_DRAWING:
        hint = near_miss(str(memory), FOR_DRAWING)
        problems.append(f"{file}: memory is {memory!r}; allowed are {', '.join(FOR_DRAWING)}.{hint}")
    if problems:
        raise ConfigError(problems)
    return content
