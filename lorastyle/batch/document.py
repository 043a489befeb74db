"""YAML (and JSON) into plain values, with the place of each.

Read event by event with an own stack: nothing nests too deeply for it, nothing is built that a tag asks for,
and what would grow without end (aliases of aliases) is refused. Scalars are read by YAML 1.2's rules: `no` is
a word, and `1:30` is no number of base 60, as it is in YAML 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import yaml

from .places import Find, Misplaced, Place

MOST_DEEP = 16
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE, _FALSE = re.compile(r"true|True|TRUE"), re.compile(r"false|False|FALSE")
_WHOLE = re.compile(r"[-+]?[0-9]{1,40}")
_FRACTION = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_Path = tuple[str | int, ...]


@dataclass
class _Open:
    """A list or a table whose end has not come yet."""

    value: list[object] | dict[str, object]
    path: _Path
    key: str | None = None


class Document:
    """A YAML text.

    Attributes:
        value: plain values.

    Raises:
        Misplaced: the text is no YAML, or has what a manifest does not need: aliases, tags, a key twice, a
            second document.
    """

    def __init__(self, text: str) -> None:
        self.value: object = None
        self._places: dict[_Path, Place] = {(): Place(1, 1)}
        self._stack: list[_Open] = []
        self._documents = 0
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            for event in cast("Iterable[Any]", yaml.parse(text, Loader=loader)):
                self._take(event)
        except yaml.MarkedYAMLError as error:
            raise Misplaced(_place(error.problem_mark or error.context_mark), _why(error)) from error
        except yaml.YAMLError as error:  # letters that YAML does not allow
            raise Misplaced(Place(1, 1), f"this is no YAML: {str(error).splitlines()[0]}.") from error

    def find(self, path: _Path) -> Place:
        """The place of what is at `path`, else of the nearest thing around it."""
        while path not in self._places:
            path = path[:-1]
        return self._places[path]

    def inside(self, around: _Path) -> Find:
        """`find` for paths that begin at `around`."""
        return lambda path: self.find((*around, *path))

    def _take(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise Misplaced(_place(event.start_mark), "a second document begins here. Use two manifests.")
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            what = "anchors and aliases (& and *) are not read. Use defaults for what items share."
            raise Misplaced(_place(event.start_mark), what)
        elif getattr(event, "tag", None) not in (None, "!"):
            raise Misplaced(_place(event.start_mark), f"the tag {event.tag[:60]} is not read. Remove it.")
        elif isinstance(event, yaml.ScalarEvent):
            self._add_scalar(event)
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            value: list[object] | dict[str, object] = {} if isinstance(event, yaml.MappingStartEvent) else []
            path = self._add(value, event)
            self._stack.append(_Open(value, path))
            if len(self._stack) > MOST_DEEP:
                raise Misplaced(_place(event.start_mark), f"nested more than {MOST_DEEP} deep.")
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            self._stack.pop()

    def _add_scalar(self, event: Any) -> None:
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            if event.value in top.value:
                what = f"the key {event.value[:80]!r} is there twice. Keep one."
                raise Misplaced(_place(event.start_mark), what)
            top.key = event.value
            self._places[(*top.path, event.value)] = _place(event.start_mark)
        else:
            plain = event.implicit[0]
            self._add(_plain_value(event.value) if plain else event.value, event)

    def _add(self, value: object, event: Any) -> _Path:
        """Put a value into the list or table that is open; its path."""
        if not self._stack:
            self.value = value
            return ()
        top = self._stack[-1]
        if isinstance(top.value, list):
            path = (*top.path, len(top.value))
            top.value.append(value)
            self._places[path] = _place(event.start_mark)
            return path
        if top.key is None:
            raise Misplaced(_place(event.start_mark), "a list or table cannot be a key.")
        path, top.key = (*top.path, top.key), None
        top.value[str(path[-1])] = value
        return path


def _plain_value(text: str) -> object:
    """A scalar without quotes, by the core schema of YAML 1.2 (section 10.3), less octal and hex."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return _TRUE.fullmatch(text) is not None
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION.fullmatch(text) else text


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)


def _why(error: yaml.MarkedYAMLError) -> str:
    why = str(error.problem or error.context)
    if "mapping values are not allowed" in why:
        return "this is no YAML: a second colon. Put text that has one into quotation marks."
    if "tab" in why or "cannot start any token" in why:
        return f"this is no YAML: {why}. Indent with spaces, not tabs; quote text that begins with a sign."
    if "nesting depth" in why:  # newer versions of libyaml have a limit of their own
        return f"nested more than {MOST_DEEP} deep."
    if "unknown escape character" in why or "expected escape sequence" in why:
        return (
            f"this is no YAML: {why}. In double quotes a backslash begins an escape: write paths in single "
            "quotes, or with forward slashes."
        )
    return f"this is no YAML: {why}."
