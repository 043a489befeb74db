"""`lorastyle library`: the user's adapters by name. Never imports torch."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import App, Parameter

from lorastyle.errors import AdapterError, ConfigError, LorastyleError, near_miss
from lorastyle.library import (
    Entry,
    adapter_folders,
    add,
    change_tags,
    in_library,
    list_adapters,
    list_removed,
    remove,
    rename,
    restore,
)

from .columns import columns, printable, room
from .console import file_size, note, say
from .names import near

library = App(
    name="library",
    help="""Your adapters by name: list, add, rename, tag, remove and put back.

    They lie in ./adapters and in the folder of LORASTYLE_HOME. Their names are what -a and the page know.""",
    help_format="plaintext",
)
_Json = Annotated[bool, Parameter("--json", negative="")]


@library.command(name="ls")
def ls(
    pattern: str = "*",
    /,
    *,
    tag: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    base: str | None = None,
    as_json: _Json = False,
) -> None:
    """List adapters: name, base, rank, size, trigger word, tags.

    Args:
        pattern: of names, such as "cat*", in whatever case.
        tag: only those with this tag; repeat for more.
        base: only those made for this family: sd1, sd2, sdxl, lorastyle-icons.
        as_json: print JSON, with paths and hashes.
    """
    there = list_adapters()
    found = [
        entry
        for entry in there
        if fnmatch(entry.name.lower(), pattern.lower())
        and set(tag) <= set(entry.tags)
        and base in (None, entry.told.family)
    ]
    if as_json:
        say(json.dumps([entry.as_dict() for entry in found], indent=2))
    elif found:
        _print(found)
    else:
        note(_nothing(pattern, tag, base, there))


@library.command(name="add")
def add_(files: tuple[Path, ...], /, *, name: str | None = None) -> None:
    """Copy adapter files into the library, with previews and notes beside them.

    Args:
        files: .safetensors files.
        name: what to call it there, where there is one file; as it is called if left out.
    """
    if not files:
        raise ConfigError("Name a file, such as lorastyle library add cat.safetensors.")
    if name is not None and len(files) != 1:
        raise ConfigError(f"--name {name} is one name, but there are {len(files)} files.")
    refused: list[str] = []
    for file in files:
        try:
            say(near(add(file, name=name)))
        except LorastyleError as error:  # the others may be added
            refused.append(str(error))
    if refused:
        raise AdapterError("\n".join(refused))


@library.command(name="rename")
def rename_(name: str, new: str, /) -> None:
    """Give an adapter another name. Previews and notes beside it go along.

    Args:
        name: what it is called.
        new: what it is to be called.
    """
    path = in_library(name)
    renamed = rename(name, new)
    say(near(renamed))
    if path.with_suffix(".run").is_dir():
        note(f"Its training stays in {near(path.with_suffix('.run'))}, and would write to the old name.")


@library.command(name="rm")
def rm(names: tuple[str, ...], /) -> None:
    """Move adapters to the trash, where `lorastyle library restore` finds them.

    Args:
        names: what they are called.
    """
    if not names:
        raise ConfigError("Name an adapter, such as lorastyle library rm cat.")
    for name in names:
        in_library(name)  # all of them, or none
    for name in names:
        removed = remove(name)
        name = printable(removed.name)
        say(f"{name} is in the trash. To put it back: lorastyle library restore {quote(name)}")
        if removed.folder.joinpath(f"{removed.name}.run").is_dir():
            note(f"Its training stays in {near(removed.folder / f'{removed.name}.run')}.")


@library.command(name="restore")
def restore_(names: tuple[str, ...] = (), /) -> None:
    """Put adapters back from the trash; without a name, say what is in it and where it is.

    Args:
        names: what they were called; of several of one name, the one that was removed last.
    """
    for name in names:
        say(near(restore(name)))
    if names:
        return
    there = list_removed()
    for item in there:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.when))
        say(f"{when}  {file_size(item.size):>9}  {printable(item.name)}  {near(item.path)}")
    if there:
        say("To make room, delete those folders.")
    else:
        say("The trash is empty.")


@library.command(name="tag")
def tag_(
    name: str,
    tags: tuple[str, ...] = (),
    /,
    *,
    remove: Annotated[tuple[str, ...], Parameter(negative="")] = (),
) -> None:
    """Tag an adapter; `lorastyle library ls --tag` finds it again. Without tags, say which it has.

    Tags that its maker put into the file are listed too, and stay.

    Args:
        name: what it is called.
        tags: to add.
        remove: a tag to take away; repeat for more.
    """
    say(", ".join(change_tags(name, tags, remove)) or "no tags")


def _row(entry: Entry) -> tuple[str, ...]:
    told = entry.told
    name = f"{entry.name} (hidden)" if entry.hidden else entry.name
    if told.problem:
        return name, "not usable", "", file_size(entry.size), told.problem, ", ".join(entry.tags)
    ranks = f"{told.ranks[0]}-{told.ranks[-1]}" if len(told.ranks) > 1 else "".join(map(str, told.ranks))
    return name, told.family or "unknown", ranks, file_size(entry.size), told.trigger, ", ".join(entry.tags)


def _print(found: Sequence[Entry]) -> None:
    heading = ("name", "base", "rank", "size", "trigger", "tags")
    lines = columns(heading, [_row(entry) for entry in found], width=room(), right=("rank", "size"))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    if any(entry.hidden for entry in found):
        note('"hidden": an adapter of the same name in ./adapters comes first; give the path of this one.')
    if any(entry.told.problem for entry in found):
        note("`lorastyle info FILE` says more of what is not usable; --json shows the paths.")


def _nothing(pattern: str, tag: Sequence[str], base: str | None, there: Sequence[Entry]) -> str:
    """Why there is nothing to list."""
    folders = " or ".join(near(folder.absolute()) for folder in adapter_folders())
    if not there:
        return f"There is no adapter in {folders}. `lorastyle library add FILE` adds one."
    bases = {entry.told.family for entry in there if entry.told.family}
    tags = {word for entry in there for word in entry.tags}
    hints = [
        *([near_miss(pattern, [entry.name for entry in there])] if pattern != "*" else ()),
        *(near_miss(word, tags) or f' There is no tag "{word}".' for word in tag if word not in tags),
        *([near_miss(base, bases)] if base is not None and base not in bases else ()),
    ]
    return f"None of the {len(there):,} adapters in {folders} is such.{''.join(hints)}"
