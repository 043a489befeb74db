"""A fixed number of rows for adapters: who stands in which, and what is remembered of those who left.

Rows that come and go lose what was set in them, so there are always `SLOTS`, of which some are hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorastyle.bases import as_prompt

SLOTS = 8
SCALE, SLIDER = (-10.0, 10.0), (-1.0, 2.0)


@dataclass(frozen=True)
class Row:
    """What a visitor set for one adapter."""

    on: bool = True
    scale: float = 1.0


Memory = Mapping[str, Row]


def rows_of(values: Sequence[object]) -> list[Row]:
    """The page's flat list on, scale, on, scale, ... as rows; what is no number counts as 1.

    Whoever draws with them checks that they lie within `SCALE`.
    """
    pairs = zip(values[::2], values[1::2], strict=True)
    return [Row(bool(on), _number(scale)) for on, scale in pairs]


def remember(memory: Memory, shown: Sequence[str], rows: Sequence[Row]) -> dict[str, Row]:
    """`memory` with what the rows say now of the adapters that stand in them."""
    return {**memory, **dict(zip(shown, rows, strict=False))}


def on_slider(scale: float) -> float:
    """Where the slider stands for a scale, which may be beyond its ends."""
    return min(max(scale, SLIDER[0]), SLIDER[1])


def with_trigger(prompt: str, trigger: str) -> str:
    """The prompt with the trigger at its end, once; its brackets are words, not weights."""
    trigger = as_prompt(trigger)
    if not trigger or trigger.casefold() in prompt.casefold():
        return prompt
    return f"{prompt.rstrip().rstrip(',')}, {trigger}" if prompt.strip() else trigger


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or value != value:
        return 1.0
    return float(value)
