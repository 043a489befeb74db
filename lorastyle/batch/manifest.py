"""A manifest file, whatever its kind, as entries."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lorastyle.errors import ConfigError, near_miss, shortened

from .document import Document
from .entries import EXCLUDE, MATRIX, ZIP, Entry, make_defaults, make_entry
from .jsonl import read_jsonl
from .places import Misplaced, Problem
from .table import read_table
from .text import check_letters, read_text

_TOP = ("defaults", "items", MATRIX, ZIP, EXCLUDE)


@dataclass(frozen=True)
class Manifest:
    """What a manifest says.

    Attributes:
        entries: its items in order, not multiplied yet.
        problems: what of it cannot be read; the entries go on without.
        folder: where relative paths in it begin.
    """

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()
    folder: Path = Path()


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest: `.jsonl`, `.csv` or `.tsv`, `.yaml` or `.yml`, `.json`.

    Raises:
        ConfigError: no such file, another kind of file, nothing in it, or trouble that concerns all of it.
    """
    path = Path(path)
    readers = {
        **dict.fromkeys((".jsonl", ".ndjson"), read_jsonl),
        **dict.fromkeys((".csv", ".tsv"), read_table),
        **dict.fromkeys((".yaml", ".yml", ".json"), _read_document),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None and not path.is_dir():
        raise ConfigError(f"{path}: a manifest ends in {', '.join(readers)}. Name it after what is in it.")
    text = read_text(path)
    try:
        read = list((reader or read_jsonl)(text.removeprefix("\ufeff")))
    except ConfigError as error:
        raise ConfigError([f"{path}: {problem}" for problem in error.problems]) from error
    except Misplaced as error:
        raise ConfigError(f"{path}: {error}") from error
    if not read:
        raise ConfigError(f'{path}: nothing to draw is in it. An item is as short as {{"prompt": "a cat"}}.')
    return Manifest(
        tuple(item for item in read if isinstance(item, Entry)),
        tuple(item for item in read if isinstance(item, Problem)),
        path.parent,
    )


def _read_document(text: str) -> Iterator[Entry | Problem]:
    check_letters(text, 1)
    document = Document(text)
    if document.value is None:
        return
    top = {"items": document.value} if isinstance(document.value, list) else document.value
    if not isinstance(top, Mapping):
        raise Misplaced(
            document.find(()), f"this is {shortened(top)}; a list of items is needed, or a table."
        )
    table = cast("Mapping[str, object]", top)
    problems = [
        f"{document.find((key,))}: unknown key {shortened(key)}.{near_miss(key, _TOP)} At the top stand "
        f"{', '.join(_TOP)}; settings go under defaults."
        for key in table
        if key not in _TOP
    ]
    if problems:
        raise ConfigError(problems)
    defaults = make_defaults(table.get("defaults") or {}, document.inside(("defaults",)))
    varied = {key: table[key] for key in (MATRIX, ZIP, EXCLUDE) if key in table}
    around = make_entry(varied, document.find, defaults=defaults)
    items = table.get("items")
    if items is None:
        yield around
        return
    if not isinstance(items, list):
        raise Misplaced(document.find(("items",)), f"items is {shortened(items)}; a list is needed.")
    start: tuple[str | int, ...] = ("items",) if "items" in table and table is document.value else ()
    for i, item in enumerate(cast("list[object]", items)):
        find = document.inside((*start, i))
        try:
            if isinstance(item, str):
                item = {"prompt": item}
            yield make_entry(item, find, defaults=defaults, around=around)
        except Misplaced as error:
            yield error.problem
