"""An adapter's files: itself and what is kept beside it, which go where it goes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lorastyle.adapters import SHEET, lock_file, move_new
from lorastyle.errors import AdapterError

from .folders import SUFFIX
from .titles import alike, bare

# Ours (.toml, the sheet); A1111 (.json, previews), InvokeAI (pictures), LoRA Manager (.metadata.json),
# Civitai Helper (.civitai.info). A run's folder stays: it is the training's, which goes on by its place.
_BESIDE = (
    *(".toml", SHEET, ".json", ".metadata.json", ".civitai.info", ".txt", ".md"),
    *(".png", ".jpg", ".jpeg", ".webp", ".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp"),
)


def companions(path: Path) -> list[Path]:
    """The files beside an adapter that belong to it, and to no other.

    `cat.preview.png` is a picture of `cat.preview.safetensors`, where there is such an adapter.
    """
    title = bare(path.name)
    files = (path.with_name(title + end) for end in _BESIDE)
    return [file for file in files if _there(file) and _of_none_else(file, title)]


def moved_name(file: Path, title: str, new: str) -> str:
    """What a file of the adapter `title` is called when that is called `new`."""
    return new + file.name.removeprefix(title)


def check_free(
    folder: Path, title: str, *, advice: str, but: Path | None = None, beside: bool = True
) -> None:
    """Is the name free in the folder, in whatever case?

    Args:
        advice: what to do where it is not, as the end of the message.
        but: an adapter that is to have the name; its own files are no obstacle.
        beside: whether files that are kept beside adapters count.

    Raises:
        AdapterError: an adapter has it, or a file that would be taken for that adapter's.
    """
    own = {but, *companions(but)} if but is not None else set[Path | None]()
    ends = {alike(title + end): end for end in (SUFFIX, *(_BESIDE if beside else ()))}
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise AdapterError(f"{folder} cannot be read ({error.strerror or error}).") from error
    for name in sorted(names, key=lambda name: not name.endswith(SUFFIX)):
        file, end = folder / name, ends.get(alike(name))
        if end is None or file in own:
            continue
        if end == SUFFIX:
            raise AdapterError(f'There is an adapter "{title}" already: {file}. {advice}')
        if _of_none_else(file, name[: -len(end)]):
            raise AdapterError(
                f'{file} would be taken for a file of "{title}". Move it away, or else: {advice}'
            )


def check_idle(path: Path) -> None:
    """Is no training at work that would write the adapter?

    Raises:
        AdapterError: one is.
    """
    try:
        with path.with_suffix(".run").joinpath("lock").open("rb+") as lock:
            idle = lock_file(lock, shared=True)
    except OSError:  # no training, or not ours to ask
        return
    if not idle:
        raise AdapterError(f"{path} is being trained. Wait for the end of that, or stop it first.")


def move_together(path: Path, target: Path) -> None:
    """Move an adapter and its companions to another name or folder of the same file system: all, or none.

    Raises:
        FileExistsError: a name is taken.
        OSError: a file cannot be moved.
    """
    title, new = bare(path.name), bare(target.name)
    done: list[tuple[Path, Path]] = []
    try:
        for file in (path, *companions(path)):
            to = target.with_name(moved_name(file, title, new))
            _move(file, to)
            done.append((file, to))
    except OSError:
        for file, to in reversed(done):
            with contextlib.suppress(OSError):  # what cannot go back stays whole where it is
                _move(to, file)
        raise


def _move(file: Path, to: Path) -> None:
    if file.parent == to.parent and alike(file.name) == alike(to.name):
        os.rename(file, to)  # where case does not count, the new name is "taken": by the file itself
    else:
        move_new(file, to)


def _of_none_else(file: Path, title: str) -> bool:
    other = file.with_suffix(SUFFIX)
    return alike(other.name) == alike(title + SUFFIX) or not _there(other)


def _there(file: Path) -> bool:
    """Links to nowhere as well."""
    try:
        return file.is_symlink() or file.is_file()
    except OSError:
        return False
