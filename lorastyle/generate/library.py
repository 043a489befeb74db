"""Where adapters lie: a path, or a name looked up in ./adapters and LORASTYLE_HOME/adapters."""

from __future__ import annotations

import os
from pathlib import Path

from lorastyle.errors import AdapterError, near_miss

SUFFIX = ".safetensors"


def adapter_folders() -> tuple[Path, ...]:
    """The folders in which a bare name is looked up, first match wins."""
    home = Path(os.environ.get("LORASTYLE_HOME") or Path.home() / ".lorastyle").expanduser()
    return Path("adapters"), home / "adapters"


def find_adapter(name: str, digest: str | None = None) -> Path:
    """The file that `name` means.

    Args:
        name: a path, or a file's name with or without ".safetensors".
        digest: the hash a picture recorded; told in the error, so that people can find the file.

    Raises:
        AdapterError: there is no such file; what exists is listed, with the nearest name.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.parent == Path("."):  # a bare name
        file_name = name if name.lower().endswith(SUFFIX) else name + SUFFIX
        for folder in adapter_folders():
            if (folder / file_name).is_file():
                return folder / file_name
    raise AdapterError(_not_found(name, path, digest))


def _not_found(name: str, path: Path, digest: str | None) -> str:
    recorded = f" (weights {digest})" if digest else ""
    folders = [path.parent] if path.parent != Path(".") else [Path("."), *adapter_folders()]
    stems = sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob(f"*{SUFFIX}")})
    where = " or ".join(str(folder) for folder in folders[-2:])
    there = (
        f"There is: {', '.join(stems[:20])}{', ...' if len(stems) > 20 else ''}."
        if stems
        else "It holds none."
    )
    stem = path.name.removesuffix(SUFFIX)
    if path.is_dir():
        return f'The adapter "{name}" is a folder; name the {SUFFIX} file in it.'
    return f'There is no adapter "{name}"{recorded} in {where}. {there}{near_miss(stem, stems)}'
