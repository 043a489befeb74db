"""What an adapter's scale is multiplied by from step to step.

Written as points of value and place, `0@0.2,0.8@0.6`: 0 until a fifth of the steps is done, then straight to
0.8 at three fifths, and 0.8 to the end. The form is that of sd-webui-loractl. Before the points may stand
`cosine`, for a ramp that starts and ends gently, or `hold`, for jumps. `turn 2/3` is the second of three
adapters that take turns, one step each, and `turn 2/3 x5` five steps each (LoRA Switch, Zhong et al. 2024,
arXiv:2402.16843).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from lorastyle.errors import ConfigError, shortened

RAMPS = ("linear", "cosine", "hold")
MOST_POINTS = 64
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_POINT = re.compile(rf"\s*({_NUMBER})\s*@\s*({_NUMBER})\s*")
_TURN = re.compile(r"turn\s+(\d{1,3})\s*/\s*(\d{1,3})(?:\s*x\s*(\d{1,4}))?")
_HELP = "write 0@0.2,0.8@0.6, with linear, cosine or hold before it, or turn 1/2"


@dataclass(frozen=True)
class Schedule:
    """Values at places between 0 (the first step) and 1 (the end), or a turn.

    Attributes:
        points: (place, value), in rising order; constant before the first and after the last.
        ramp: how to get from one to the next, one of `RAMPS`.
        turn: (whose, of how many, steps each), from 1; then there are no points.
    """

    points: tuple[tuple[float, float], ...] = ()
    ramp: str = "linear"
    turn: tuple[int, int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read one; see this module.

        Raises:
            ConfigError: no schedule, a place outside of 0 to 1 or before the last one, or a number that
                is not finite.
        """
        stripped = text.strip()
        if found := _TURN.fullmatch(stripped):
            which, count, steps = int(found[1]), int(found[2]), int(found[3] or 1)
            if not 1 <= which <= count or steps < 1:
                raise ConfigError(f"schedule {shortened(text)}: there is no turn {which} of {count}.")
            return cls(turn=(which, count, steps))
        ramp, _, rest = stripped.partition(" ") if stripped[:1].isalpha() else ("linear", "", stripped)
        parts = rest.split(",")
        found = [_POINT.fullmatch(part) for part in parts]
        if ramp not in RAMPS or not rest or None in found or len(parts) > MOST_POINTS:
            raise ConfigError(f"schedule {shortened(text)} is none; {_HELP}.")
        points = tuple((float(point[2]), float(point[1])) for point in found if point)
        places = [place for place, _ in points]
        if places != sorted(places) or not all(0 <= place <= 1 for place in places):
            raise ConfigError(
                f"schedule {shortened(text)}: places are shares of the steps, from 0 to 1, each later than "
                "the one before, or the same for a jump."
            )
        if not all(math.isfinite(value) for _, value in points):
            raise ConfigError(f"schedule {shortened(text)}: a value is not finite.")
        return cls(points, ramp)

    def at(self, step: int, steps: int) -> float:
        """The factor for step `step` of `steps`, the first being 0: at the share of them that is done."""
        if self.turn is not None:
            which, count, each = self.turn
            return float(step // each % count == which - 1)
        place = step / steps
        before = [point for point in self.points if point[0] <= place]
        after = [point for point in self.points if point[0] > place]
        if not before:
            return after[0][1]
        (start, value) = before[-1]
        if not after or self.ramp == "hold":
            return value
        end, next_value = after[0]
        share = (place - start) / (end - start)
        if self.ramp == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return value + (next_value - value) * share
