"""Where adapters lie: a path, or a name looked up in ./adapters and LORASTYLE_HOME/adapters."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from lorastyle.adapters import is_adapter_folder
from lorastyle.errors import AdapterError, near_miss
from lorastyle.hub import HubAdapter, cached, pull

from .request import AdapterUse

SUFFIX = ".safetensors"


def adapter_folders() -> tuple[Path, ...]:
    """The folders in which a bare name is looked up, first match wins."""
    home = Path(os.environ.get("LORASTYLE_HOME") or Path.home() / ".lorastyle").expanduser()
    return Path("adapters"), home / "adapters"


def find_adapter(name: str, digest: str | None = None) -> Path:
    """The file that `name` means.

    Args:
        name: a path or a file's name, both with or without ".safetensors"; or a name of the Hub
            (`HubAdapter`) whose file is in the local cache already: `lorastyle.hub.pull` fetches it.
        digest: the hash a picture recorded; told in the error, so that people can find the file.

    Raises:
        AdapterError: there is no such file; what exists is listed, with the nearest name.
    """
    found = look_up(name)
    if found is None:
        raise AdapterError(_not_found(name, expanded(name), digest))
    return found


def look_up(name: str) -> Path | None:
    """As `find_adapter`, without an explanation where there is none."""
    path = expanded(name)
    if _is_file(path) or is_adapter_folder(path):
        return path
    bare = path.parent == Path(".")
    whole = path if name.lower().endswith(SUFFIX) else expanded(name + SUFFIX)
    for folder in (*adapter_folders(), Path(".")) if bare else (Path("."),):
        if _is_file(folder / whole):
            return folder / whole
    return cached(name)


def fetched(use: AdapterUse) -> AdapterUse:
    """An adapter that somebody typed, fetched where its name is the Hub's; its name then says which file.

    Raises:
        AdapterError: see `lorastyle.hub.pull`.
    """
    if look_up(use.name) is not None or (there := pull(use.name)) is None:
        return use
    return replace(use, name=there[0])


def expanded(name: str) -> Path:
    """The path of a name, `~` being the home folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # "~nobody"
        return Path(name)


def _is_file(path: Path) -> bool:
    """False as well for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _not_found(name: str, path: Path, digest: str | None) -> str:
    recorded = f" (weights {digest})" if digest else ""
    name = name if len(name) <= 200 else f"{name[:200]}..."
    bare = path.parent == Path(".")
    folders = [*adapter_folders(), Path(".")] if bare else [path.parent]
    found = (file for folder in folders for file in adapter_files(folder))
    stems = sorted({file.stem for file in found})
    where = " or ".join("here" if folder == Path(".") else str(folder)[:200] for folder in folders)
    there = (
        f"There is: {', '.join(stems[:20])}{', ...' if len(stems) > 20 else ''}."
        if stems
        else "It holds none."
    )
    stem = path.name[:200].removesuffix(SUFFIX)
    if os.path.isdir(path):
        return f'The adapter "{name}" is a folder; name the {SUFFIX} file in it.'
    if HubAdapter.parse(name) is not None and not path.parent.is_dir():
        return (
            f'There is no adapter "{name}"{recorded} here, and none in the local cache of the Hub. '
            f"To fetch it: -a {name}"
        )
    hint = near_miss(stem, stems)
    if stem.rpartition(":")[0].strip().removesuffix(SUFFIX) in stems:
        hint = " What follows the last colon is no number, so it is not read as a scale."
    return f'There is no adapter "{name}"{recorded} in {where}. {there}{hint}'


def adapter_files(folder: Path) -> list[Path]:
    """The adapter files in a folder; none where it cannot be read."""
    try:
        return [file for file in folder.glob(f"*{SUFFIX}") if file.is_file()]
    except (OSError, ValueError):
        return []
