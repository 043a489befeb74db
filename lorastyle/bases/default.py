"""Which base is meant when none is named."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lorastyle.errors import ConfigError, near_miss

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "lorastyle.toml"
KEYS = ("base",)


def default_base() -> str:
    """LORASTYLE_BASE, else `base` in ./lorastyle.toml or the one in LORASTYLE_HOME, else "embedded".

    A relative path in such a file starts at the file.

    Raises:
        ConfigError: a file that is there cannot be read, or holds something else.
    """
    if named := os.environ.get("LORASTYLE_BASE"):
        return named
    home = Path(os.environ.get("LORASTYLE_HOME") or Path.home() / ".lorastyle").expanduser()
    for file in (Path(FILE), home / FILE):
        if file.is_file() and (named := _base_in(file)):
            return named
    return "embedded"


def _base_in(file: Path) -> str | None:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read ({error}). Mend it, or name a base with --base.") from error
    problems = [
        f"{file}: {key} is no key of this file.{near_miss(key, KEYS) or ' There is only base.'}"
        for key in content.keys() - set(KEYS)
    ]
    base = content.get("base")
    if base is not None and not (isinstance(base, str) and base.strip()):
        problems.append(f'{file}: base is {base!r}; a text is needed, such as base = "./my-model".')
    if problems:
        raise ConfigError(problems)
    beside = file.parent / str(base) if base else None
    return str(beside) if beside is not None and beside.exists() else base
