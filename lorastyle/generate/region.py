"""The part of a picture that an adapter is confined to, as it is written.

left                     a side: left, right, top, bottom, or center, or two of them: "top left"
0,0,0.5,1                a box: left, top, right and bottom as shares of width and height
face.png                 a picture of the same shape, white where the adapter acts
outside face.png         everything else
left ~0.2                with an edge that fades over a fifth of the shorter side
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePath

from lorastyle.errors import ConfigError, near_miss, shortened

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of width and height."""

_HALVES: dict[str, Box] = {
    "left": (0, 0, 0.5, 1),
    "right": (0.5, 0, 1, 1),
    "top": (0, 0, 1, 0.5),
    "bottom": (0, 0.5, 1, 1),
    "center": (0.25, 0.25, 0.75, 0.75),
}
_OPPOSITE = ({"left", "right"}, {"top", "bottom"})
_SOFT = re.compile(r"(.+?)\s*~\s*(\d+\.?\d*|\.\d+)\s*", re.DOTALL)
_OUTSIDE = "outside "
_HELP = 'write left, right, top, bottom, center, "top left", a box such as 0,0,0.5,1, or a picture\'s path'


@dataclass(frozen=True)
class Region:
    """Where an adapter acts.

    Attributes:
        box: a rectangle; None where `picture` says it.
        picture: the path of a picture, white (or not transparent) where the adapter acts.
        outside: it acts everywhere else instead.
        soft: over how much of the shorter side the edge fades, 0 to 1.
    """

    box: Box | None
    picture: str | None = None
    outside: bool = False
    soft: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read one; see this module.

        Raises:
            ConfigError: no region, a box that is empty or not within the picture, or an edge beyond 1.
        """
        rest, soft = text.strip(), 0.0
        if found := _SOFT.fullmatch(rest):
            rest, soft = found[1], float(found[2])
        if not soft <= 1:
            raise ConfigError(f"mask {shortened(text)}: the edge fades over {soft:g} of the side; at most 1.")
        outside = rest.startswith(_OUTSIDE)
        rest = rest.removeprefix(_OUTSIDE).strip()
        box = _words(text, rest) or _edges(text, rest)
        if box is None and not _is_picture(rest):
            pairs = [" ".join(pair) for pair in combinations(_HALVES, 2)]
            hint = near_miss(rest, [*_HALVES, *pairs])
            raise ConfigError(f"mask {shortened(text)} is no part of a picture; {_HELP}.{hint}")
        return cls(box, None if box else rest, outside, soft)

    def __str__(self) -> str:
        what = self.picture if self.box is None else ",".join(f"{edge:.12g}" for edge in self.box)
        return f"{_OUTSIDE if self.outside else ''}{what}{f' ~{self.soft:.12g}' if self.soft else ''}"


def _words(text: str, written: str) -> Box | None:
    words = written.lower().replace("centre", "center").split()
    if not words or not all(word in _HALVES for word in words):
        return None
    if len(set(words)) < len(words) or len(words) > 2 or set(words) in _OPPOSITE:
        raise ConfigError(f"mask {shortened(text)} is no part of a picture; {_HELP}.")
    boxes = [_HALVES[word] for word in words]
    left, top = (max(box[i] for box in boxes) for i in (0, 1))
    right, bottom = (min(box[i] for box in boxes) for i in (2, 3))
    return left, top, right, bottom


def _edges(text: str, written: str) -> Box | None:
    try:
        edges = [float(edge) for edge in written.split(",")]
    except ValueError:
        return None
    if len(edges) != 4 or not all(math.isfinite(edge) and 0 <= edge <= 1 for edge in edges):
        raise ConfigError(
            f"mask {shortened(text)}: left, top, right and bottom are needed, as shares of the picture from "
            "0 to 1, such as 0,0,0.5,1."
        )
    left, top, right, bottom = edges
    if left >= right or top >= bottom:
        raise ConfigError(
            f"mask {shortened(text)} is empty: right must be beyond left, and bottom below top."
        )
    return left, top, right, bottom


def _is_picture(written: str) -> bool:
    from lorastyle.pictures import SUFFIXES  # here, since few requests need the decoders that come with it

    return PurePath(written.replace("\\", "/")).suffix.lower() in SUFFIXES
