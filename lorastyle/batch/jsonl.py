"""Manifests of one JSON object a line; a line `{"defaults": {...}}` counts for the lines after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import NoReturn, cast

from .entries import Entry, make_defaults, make_entry
from .places import Misplaced, Place, Problem
from .text import check_letters

_DEFAULTS = "defaults"


def read_jsonl(text: str) -> Iterator[Entry | Problem]:
    """The entries in order; a line that cannot be read is a problem, and the others go on."""
    defaults: dict[str, object] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        find = partial(_find, line, number)
        try:
            item = _parse(line, number)
            if isinstance(item, dict) and list(cast("dict[str, object]", item)) == [_DEFAULTS]:
                defaults = make_defaults(item[_DEFAULTS], lambda path, find=find: find((_DEFAULTS, *path)))
            else:
                yield make_entry(item, find, defaults=defaults)
        except Misplaced as error:
            yield error.problem


def _parse(line: str, number: int) -> object:
    check_letters(line, number)

    def refuse_constant(name: str) -> NoReturn:
        raise Misplaced(Place(number, line.find(name) + 1), f"{name} is no number.")

    def refuse_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            twin = next(name for name in names if names.count(name) > 1)
            place = Place(number, line.rfind(json.dumps(twin, ensure_ascii=False)) + 1 or 1)
            raise Misplaced(place, f"the key {twin[:80]!r} is there twice. Keep one.")
        return table

    try:
        return json.loads(line, object_pairs_hook=refuse_twins, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        raise Misplaced(Place(number, error.colno), f"this is no JSON: {_why(line, error)}.") from error
    except (RecursionError, ValueError) as error:  # nested without end; a number of thousands of digits
        raise Misplaced(
            Place(number, 1), "this JSON is nested too deeply, or a number is too long."
        ) from error


def _why(line: str, error: json.JSONDecodeError) -> str:
    """The parser's words; of a comma too many, which people leave behind most often, what to do."""
    if error.msg == "Extra data" and line[error.pos :].strip() == ",":
        return "each line stands alone. Take away the comma at its end"
    before = line[: error.pos].rstrip()
    trailing = before.endswith(",") and line[error.pos : error.pos + 1] in ("}", "]")
    if trailing or error.msg.startswith("Illegal trailing comma"):  # in the words of Python 3.13
        return "nothing follows the last comma. Take it away"
    if error.msg.startswith("Invalid \\"):  # a path of Windows
        return f"{error.msg}. A backslash begins an escape: write two of them, or forward slashes"
    return error.msg


def _find(line: str, number: int, path: tuple[str | int, ...]) -> Place:
    """Where the outermost key stands. Read again: it is only asked where there is trouble."""
    at = len(line) - len(line.lstrip())
    if path and isinstance(path[0], str):
        at = _key_columns(line).get(path[0], at)
    return Place(number, at + 1)


def _key_columns(line: str) -> dict[str, int]:
    """{key: offset} of the keys of a line that is a JSON object; empty where it is none."""
    decoder, columns = json.JSONDecoder(), dict[str, int]()
    at = _skip(line, 0)
    if not line.startswith("{", at):
        return columns
    at = _skip(line, at + 1)
    while line[at : at + 1] == '"':
        key, end = decoder.raw_decode(line, at)
        columns[str(key)] = at
        value = _skip(line, _skip(line, end) + 1)  # beyond the colon
        at = _skip(line, decoder.raw_decode(line, value)[1])
        at = _skip(line, at + 1) if line[at : at + 1] == "," else at
    return columns


def _skip(line: str, at: int) -> int:
    while line[at : at + 1] in (" ", "\t", "\r", "\n"):
        at += 1
    return at
