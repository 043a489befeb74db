"""What a setting may hold: the checks behind TrainConfig's fields, in words for people."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any, cast

from lorastyle.errors import is_unicode, near_miss


@dataclass(frozen=True)
class Setting:
    """One field's type and limits.

    Attributes:
        kind: "text", "path", "whole number", "number", "true or false" or "list of texts".
        low, high: limits of a number, both allowed.
        allowed: the words a text may be; empty: any.
        such_as: a good value, for error messages.
    """

    kind: str
    low: float = -math.inf
    high: float = math.inf
    allowed: Sequence[str] = ()
    such_as: object = None

    def read(self, key: str, value: object) -> object:
        """The value as its field keeps it: 3.0 becomes 3 for whole numbers, lists become tuples.

        Raises:
            ValueError: it does not fit; the text says what would.
        """
        if self.kind in ("whole number", "number"):
            return self._number(key, value)
        if self.kind == "list of texts":
            return self._texts(key, value)
        if self.kind == "true or false":
            if not isinstance(value, bool):
                raise ValueError(f"{key} = {shown(value)}: must be true or false, without quotes.")
            return value
        return self._text(key, value)

    def _number(self, key: str, value: object) -> float:
        example = f"{key} = {shown(self.such_as)}"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            if isinstance(value, str) and _is_number(value):
                raise ValueError(f"{key} = {shown(value)}: write it without quotes, {key} = {value.strip()}.")
            raise ValueError(f"{key} = {shown(value)}: must be a {self.kind}, such as {example}.")
        if self.kind == "whole number" and value != value // 1:
            raise ValueError(f"{key} = {shown(value)}: must be a whole number, such as {example}.")
        if not self.low <= value <= self.high:  # false for NaN as well
            limits = f"from {_plain(self.low)} to {_plain(self.high)}"
            raise ValueError(f"{key} = {shown(value)}: out of range; allowed is {limits}, such as {example}.")
        return int(value) if self.kind == "whole number" else float(value)

    def _text(self, key: str, value: object) -> str:
        if self.kind == "path" and isinstance(value, os.PathLike):
            value = os.fspath(cast("os.PathLike[str]", value))
        if isinstance(value, str) and not is_unicode(value):
            raise ValueError(f"{key} = {value!a}: is no text in UTF-8; rename it.")
        if not isinstance(value, str):
            raise ValueError(f"{key} = {shown(value)}: must be a text in quotes.")
        if not value.strip():
            what = (
                "name the folder of your pictures, such as ./my-pictures"
                if key == "images"
                else "it is empty"
            )
            raise ValueError(f"{key} is missing: {what}.")
        if any(ord(c) < 32 for c in value):
            advice = ""
            if self.kind == "path":
                advice = " In double quotes a backslash begins an escape: write a path in single quotes."
            raise ValueError(f"{key} = {shown(value)}: must be one line without control characters.{advice}")
        if self.allowed and value not in self.allowed:
            words = ", ".join(shown(word) for word in self.allowed)
            raise ValueError(
                f"{key} = {shown(value)}: allowed are {words}.{near_miss(value.lower(), self.allowed)}"
            )
        return os.path.abspath(os.path.expanduser(value)) if self.kind == "path" else value.strip()

    def _texts(self, key: str, value: object) -> tuple[str, ...]:
        items = (value,) if isinstance(value, str) else value
        if (
            not isinstance(items, (list, tuple))
            or not items
            or not all(isinstance(item, str) and item.strip() for item in cast("Sequence[object]", items))
        ):
            example = f"{key} = [{shown(self.such_as)}]"
            raise ValueError(f"{key} = {shown(value)}: must be a list of texts, such as {example}.")
        return tuple(cast("Sequence[str]", items))


def text(default: object, allowed: Sequence[str] = ()) -> Any:
    """A field of one line of text."""
    return _field(default, Setting("text", allowed=allowed))


def path(default: object = MISSING) -> Any:
    """A field of a path, kept absolute."""
    return _field(default, Setting("path"))


def whole(default: object, low: int, high: int, *, such_as: int) -> Any:
    """A field of a whole number."""
    return _field(default, Setting("whole number", low, high, such_as=such_as))


def number(default: object, low: float, high: float, *, such_as: float) -> Any:
    """A field of a number."""
    return _field(default, Setting("number", low, high, such_as=such_as))


def switch(default: object) -> Any:
    """A field that is true or false."""
    return _field(default, Setting("true or false"))


def texts(default: object, *, such_as: str) -> Any:
    """A field of several texts; one text stands for a list of it."""
    return _field(default, Setting("list of texts", such_as=such_as))


def _field(default: object, setting: Setting) -> Any:
    return field(default=default, metadata={"setting": setting})


def shown(value: object) -> str:
    """A value as TOML spells it: "text", true, [1, 2], inf."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _plain(limit: float) -> str:
    return f"{limit:,.0f}" if limit == int(limit) else f"{limit:g}"


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False
