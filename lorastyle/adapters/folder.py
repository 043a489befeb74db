"""peft's folders, written whole or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from .adapter import Adapter
from .files import write_tensors
from .formats import peft


def write_folder(
    adapter: Adapter, path: Path, metadata: Mapping[str, str], *, check: Callable[[Path], None]
) -> None:
    """A subfolder for each component, with its weights and its configuration; `path` is none yet, or empty.

    `check` is called with the finished folder before it gets its name; what it raises stops the write.

    Raises:
        OSError: the disk is full, or the folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".lorastyle-{secrets.token_hex(8)}.tmp")
    try:
        for component in dict.fromkeys((*adapter.components, *adapter.dense)):
            updates = {**adapter.components.get(component, {}), **adapter.dense.get(component, {})}
            if updates:
                tensors, config = peft.write(updates)
                write_tensors(temporary / component / peft.WEIGHTS, tensors, metadata)
                (temporary / component / peft.CONFIG).write_text(config, "utf-8")
        check(temporary)
        if path.exists():
            path.rmdir()  # an empty one
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
