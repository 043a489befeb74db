"""Where in a manifest something stands, and what is wrong there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Place(NamedTuple):
    """A place in a text, counted from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


Find = Callable[[tuple[str | int, ...]], Place]
"""The place of a key or value: of ("matrix", "seed", 2), of ("prompt",), of () as a whole. What is not there
is the place of what would hold it."""


@dataclass(frozen=True)
class Problem:
    """Something in a manifest that cannot be used."""

    place: Place
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


class Misplaced(Exception):
    """What cannot be used in a part of a manifest, and where; the rest of it can."""

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.problem = Problem(place, what)
