"""Points of scale and step, `1@0,0.5@10`, as sd-webui-loractl reads them: shares of the steps, or steps.

Source: github.com/cheald/sd-webui-loractl, README.
"""

from __future__ import annotations

import re

FLOAT = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
POINTS = re.compile(rf"\s*((?:linear|cosine|hold)\s+)?({FLOAT}\s*[@~].*)", re.DOTALL)
_POINT = re.compile(rf"\s*({FLOAT})\s*(?:[@~]\s*({FLOAT})\s*)?")


def in_shares(schedule: str, steps: int | None) -> str:
    """Points as loractl takes them: `0@0,1@10` of 20 steps is `0@0,1@0.5`.

    Where one place is above 1, all of them count steps. They may be in any order, `;` and `~` stand for `,`
    and `@`, and a value without a place is that of the end. What is not such points stays as it is.

    Args:
        steps: of the request; None leaves places in steps as they are.
    """
    whole = POINTS.fullmatch(schedule)
    found = [_POINT.fullmatch(part) for part in re.split("[,;]", whole[2])] if whole else []
    points = [(float(point[2] or 1), point[1]) for point in found if point]
    if whole is None or len(points) < len(found):
        return schedule
    counted = max(place for place, _ in points) > 1
    if steps is not None and (counted or points != sorted(points, key=lambda point: point[0])):
        points.sort(key=lambda point: point[0])
    elif not re.search("[;~]", whole[2]) and all(point and point[2] for point in found):
        return schedule
    if counted and steps is not None:
        points = _cut_at_the_end([(place / steps, value) for place, value in points])
    return (whole[1] or "") + ",".join(f"{value}@{_plain(place)}" for place, value in points)


def _plain(place: float) -> str:
    """As short as it can be while it is the same number."""
    short = f"{place:g}"
    return short if float(short) == place else repr(place)


def _cut_at_the_end(points: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Without the places beyond 1; the last is what is reached there."""
    inside = [point for point in points if point[0] <= 1]
    beyond = next((point for point in points if point[0] > 1), None)
    if beyond is None or not inside:
        return inside or [(1.0, points[0][1])]
    (start, value), (end, after) = inside[-1], beyond
    reached = float(value) + (float(after) - float(value)) * (1 - start) / (end - start)
    return inside if start == 1 else [*inside, (1.0, f"{reached:g}")]
