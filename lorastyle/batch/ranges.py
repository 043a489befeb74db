"""Ranges of numbers: `0:1:0.25` stands for 0, 0.25, 0.5, 0.75 and 1, and `1:4` for 1, 2, 3 and 4."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from lorastyle.errors import ConfigError, shortened

MOST = 100_000  # values of one range, or of one axis
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_RANGE = re.compile(rf"\s*({_NUMBER}):({_NUMBER})(?::({_NUMBER}))?\s*")
_ADAPTER_RANGE = re.compile(rf"(.+?):({_NUMBER}:{_NUMBER}(?::{_NUMBER})?)", re.DOTALL)


def is_range(value: object) -> bool:
    """Whether `value` is text of that form."""
    return isinstance(value, str) and len(value) <= 100 and _RANGE.fullmatch(value) is not None


def range_values(text: str) -> list[int | float]:
    """The numbers of a range, both ends included where the steps meet them, in decimal arithmetic.

    Raises:
        ConfigError: a step of 0, one that leads away from the end, or far too many of them.
    """
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ConfigError(f"{shortened(text)} is no range; write FROM:TO or FROM:TO:STEP, such as 0:1:0.25.")
    first, last = Decimal(found[1]), Decimal(found[2])
    step = Decimal(found[3]) if found[3] else Decimal(1 if last >= first else -1)
    if step == 0 or (last - first) / step < 0:
        raise ConfigError(f"the range {text.strip()} never ends; its step must lead from {first} to {last}.")
    try:
        count = int((last - first) // step) + 1
    except InvalidOperation:
        count = MOST + 1
    if count > MOST:
        raise ConfigError(f"the range {text.strip()} has more than {MOST:,} values. Take larger steps.")
    return [_number(first + i * step) for i in range(count)]


def adapter_range(text: str) -> tuple[str, str] | None:
    """`cat:0:1:0.25` -> ("cat", "0:1:0.25"); None where no range follows a name."""
    found = _ADAPTER_RANGE.fullmatch(text) if len(text) <= 1000 else None
    return (found[1], found[2]) if found else None


def number_or_text(text: str) -> int | float | str:
    """The number that a word of a table or a command line is, else the word."""
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    return float(text) if re.fullmatch(rf"{_NUMBER}(?:[eE][+-]?\d{{1,3}})?", text) else text


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
