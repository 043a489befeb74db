"""The loss curve as a small SVG, in the colours of the page."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT, MOST_POINTS = 600, 150, 240
_LEFT, _BOTTOM, _TOP = 62, 20, 8


def curve(losses: Sequence[tuple[int, float]], steps: int) -> str:
    """Each step's loss faintly, and their running mean; nothing before there are two of them.

    Losses jump with the noise level that was drawn: only the mean says where it goes.

    Args:
        losses: (step, loss) in order.
        steps: of the whole run, the width of the picture.
    """
    if len(losses) < 2:
        return ""
    means = smoothed([loss for _, loss in losses])
    low, high = _limits([loss for _, loss in losses])

    def x(step: float) -> float:
        return _LEFT + (WIDTH - _LEFT - 6) * (step - 1) / max(1, steps - 1)

    def y(loss: float) -> float:
        share = (min(max(loss, low), high) - low) / (high - low)
        return HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * share

    def line(values: Sequence[float], kind: str) -> str:
        points = thinned([(step, value) for (step, _), value in zip(losses, values, strict=True)])
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        return f'<polyline class="{kind}" points="{path}"/>'

    marks = "".join(
        f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2g}</text>'
        f'<line x1="{_LEFT}" x2="{WIDTH - 6}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        for value in (low, high)
    )
    ends = (
        f'<text x="{_LEFT}" y="{HEIGHT - 4}">step 1</text>'
        f'<text x="{WIDTH - 6}" y="{HEIGHT - 4}" text-anchor="end">{steps:,}</text>'
    )
    return (
        f'<svg class="lt-curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="loss {means[-1]:.4f} at step {losses[-1][0]}">{marks}{ends}'
        f"{line([loss for _, loss in losses], 'lt-each')}{line(means, 'lt-mean')}</svg>"
    )


def smoothed(values: Sequence[float], memory: float = 0.95) -> list[float]:
    """Exponential running means without the pull to the first value (as in Adam, arXiv:1412.6980)."""
    mean, found = 0.0, list[float]()
    for count, value in enumerate(values, 1):
        mean = memory * mean + (1 - memory) * value
        found.append(mean / (1 - memory**count))
    return found


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """As many as can be seen: neighbours are averaged, and the last is kept as it is."""
    size = -(-len(points) // MOST_POINTS)
    if size <= 1:
        return list(points)
    groups = [points[i : i + size] for i in range(0, len(points) - 1, size)]
    return [(g[len(g) // 2][0], sum(v for _, v in g) / len(g)) for g in groups] + [points[-1]]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Of the drawing: from the lowest to all but the highest twentieth, which would flatten the rest."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return (low, high) if high > low else (low - 0.5 * abs(low) - 1e-6, low + 0.5 * abs(low) + 1e-6)
