"""`lorastyle info`: what is in an adapter file. Reads the header only and never imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lorastyle.adapters import read_info

from .console import say


def info(file: Path, /, *, as_json: Annotated[bool, Parameter("--json", negative="")] = False) -> None:
    """Say what is in an adapter file: which base it is for, its trigger word, rank, size, how it was made.

    Args:
        file: a .safetensors file.
        as_json: print JSON.
    """
    found = read_info(file)
    if as_json:
        say(json.dumps(found.as_dict(), indent=2))
    else:
        say(found.describe())
