"""`lorastyle inspect`: what is in an adapter's tensors, module by module."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lorastyle.errors import ConfigError, LorastyleError

from .console import Steps, print_error, say
from .inspected import told
from .named import adapter_path

if TYPE_CHECKING:
    from lorastyle.adapters import Inspection
    from lorastyle.bases import StoredBase

_PATIENCE = 2.0  # seconds


def inspect(
    adapters: tuple[str, ...],
    /,
    *,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
    base: str | None = None,
) -> int:
    """Look into an adapter's tensors: how strong it is in which block, what it uses of its rank, and what is
    broken in it.

    Any form is read, for any base, even where nothing can draw with it. What its header tells is for
    lorastyle info to say.

    Args:
        adapters: names in the library, .safetensors files, or peft folders.
        every: name every module where only the first are named otherwise.
        as_json: print JSON: a list with an object for each file, and all of its modules.
        base: measure DoRA, OFT and IA3 by what they make of its weights: a folder, a checkpoint or a Hub id.
    """
    if not adapters:
        raise ConfigError("Name an adapter, such as lorastyle inspect adapters/mypictures.safetensors.")
    found: list[dict[str, object]] = []
    stored = None if base is None else _stored(base)
    failed = False
    for i, word in enumerate(adapters):
        try:
            path = adapter_path(word)
            inspection = _look(path, stored)
        except LorastyleError as error:  # the others are worth a look all the same
            print_error(str(error))
            failed = True
            continue
        if as_json:
            found.append({"path": str(path), **inspection.as_dict()})
            continue
        if i:
            say()
        for line, style in told(inspection, path, every=every, base=base):
            say(line, style=style)
    if as_json:
        say(json.dumps(found, indent=2))
    return int(failed)


def _stored(base: str) -> StoredBase:
    from lorastyle.bases import open_stored

    return open_stored(base)


def _look(path: Path, base: StoredBase | None) -> Inspection:
    """With a bar where somebody waits: updates that are not low rank take a while."""
    from lorastyle.adapters import inspect_adapter

    started = time.monotonic()
    with Steps() as steps:

        def show(done: int, count: int) -> None:
            if sys.stdout.isatty() and time.monotonic() - started > _PATIENCE:
                steps.update("looking", done, count)

        if base is None:
            return inspect_adapter(path, on_module=show)
        return inspect_adapter(path, base.shapes, weights=base.weight, on_module=show)
