"""What a name means: a file in ./adapters or LORASTYLE_HOME/adapters, or a path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lorastyle.adapters import is_adapter_folder
from lorastyle.errors import AdapterError, near_miss
from lorastyle.hub import HubAdapter, cached

from .folders import SUFFIX, adapter_folders, distinct
from .titles import alike, bare


def find_adapter(name: str, digest: str | None = None) -> Path:
    """The file that `name` means.

    Args:
        name: a file's name or a path, both with or without ".safetensors"; or a name of the Hub
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
    """As `find_adapter`, without an explanation where there is none.

    "./cat" is a path. "cat" is a peft folder of that name here, else an adapter of the library, else a file
    here, so that notes called "cat" are not in the way of an adapter.
    """
    path = expanded(name)
    if is_adapter_folder(path):
        return path
    if _is_name(name) and bare(name) == name:
        for folder in (*adapter_folders(), Path(".")):
            if _is_file(folder / (name + SUFFIX)):
                return folder / (name + SUFFIX)
    if _is_file(path):
        return path
    if _is_name(name):
        for folder in adapter_folders():
            if _is_file(folder / name):
                return folder / name
    elif not name.lower().endswith(SUFFIX) and _is_file(expanded(name + SUFFIX)):
        return expanded(name + SUFFIX)
    return cached(name)


def in_library(name: str) -> Path:
    """The file in a library folder that `name` means, absolute; what lies elsewhere is nobody's to move.

    A path may be given as well, of a broken link too.

    Raises:
        AdapterError: there is none, or it lies elsewhere.
    """
    folders = distinct(adapter_folders())
    path = expanded(name)
    if _is_name(name) and not name.startswith("."):
        for folder in folders:
            file = folder / (bare(name) + SUFFIX)
            if _is_file(file) or _is_link(file):
                return _as_spelt(file)
        if look_up(name) is None:
            raise AdapterError(_not_found(name, path, None, folders))
    elif look_up(name) is None and not _is_link(path):
        raise AdapterError(_not_found(name, path, None))
    real = os.path.realpath(path.parent)
    folder = next((folder for folder in folders if os.path.realpath(folder) == real), None)
    if folder is not None and path.suffix == SUFFIX and not path.is_dir() and not path.name.startswith("."):
        return _as_spelt(folder / path.name)
    raise AdapterError(
        f"{path} is no adapter file in the library ({' or '.join(map(str, folders))}), so it stays as it is."
    )


def expanded(name: str) -> Path:
    """The path of a name, `~` being the home folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # "~nobody"
        return Path(name)


def _as_spelt(path: Path) -> Path:
    """With the name that the folder has for it, where case does not count there."""
    names = os.listdir(path.parent)
    spelt = (name for name in names if alike(name) == alike(path.name))
    return path if path.name in names else path.with_name(next(spelt, path.name))


def _is_file(path: Path) -> bool:
    """False as well for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _is_name(name: str) -> bool:
    """Whether it has no folder in it: "./cat" has one."""
    return not any(mark in name for mark in (os.sep, os.altsep or os.sep)) and not name.startswith("~")


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except (OSError, ValueError):
        return False


def _files(folder: Path) -> list[Path]:
    """The adapter files in a folder; none where it cannot be read."""
    try:
        return [file for file in folder.glob(f"*{SUFFIX}") if file.is_file()]
    except (OSError, ValueError):
        return []


def _not_found(name: str, path: Path, digest: str | None, folders: Sequence[Path] | None = None) -> str:
    recorded = f" (weights {digest})" if digest else ""
    name = name if len(name) <= 200 else f"{name[:200]}..."
    if folders is None:
        folders = [*adapter_folders(), Path(".")] if path.parent == Path(".") else [path.parent]
    found = (file for folder in folders for file in _files(folder))
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
