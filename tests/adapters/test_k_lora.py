"""K-LoRA's choice, against the paper's comparison step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorastyle.adapters import Adapter, LowRank, turning_points
from lorastyle.errors import AdapterError

from .examples import low_rank

SHAPES = {f"mid.{i}": (24 + 8 * i, 20) for i in range(6)} | {"conv": (16, 8, 3, 3), "apart": (9, 9)}
STEPS = 20


def pair() -> tuple[Adapter, Adapter]:
    """Of different ranks, and the style with one module less; some of its layers are loud."""
    subject = {path: low_rank(shape, 3, 3.0, i) for i, (path, shape) in enumerate(SHAPES.items())}
    style = {
        path: low_rank(shape, 5, 5.0 * 1.4**i, 50 + i)
        for i, (path, shape) in enumerate(SHAPES.items())
        if path != "apart"
    }
    return Adapter("cat", {"unet": subject}), Adapter("ink", {"unet": style})


def chosen(subject: Adapter, style: Adapter, step: int) -> dict[str, str]:
    """Which acts where, as the paper's loop compares them."""
    paths = [path for path in SHAPES if path != "apart"]
    dense = {
        path: [a.components["unet"][path].delta().double().abs() for a in (subject, style)] for path in paths
    }
    gamma = sum(float(c.sum()) for c, _ in dense.values()) / sum(float(s.sum()) for _, s in dense.values())
    found: dict[str, str] = {}
    for path, (content, other) in dense.items():
        ranks = [a.components["unet"][path].rank for a in (subject, style)]
        count = min(ranks[0] * ranks[1], content.numel())
        first, second = (
            float(m.flatten().sort(descending=True).values[:count].sum()) for m in (content, other)
        )
        found[path] = "style" if second * gamma * (1.5 * step / STEPS + 0.5) >= first else "subject"
    return found


def by_points(points: dict[str, float], step: int) -> dict[str, str]:
    return {path: "style" if step / STEPS >= turn else "subject" for path, turn in points.items()}


def test_as_the_paper_compares_them() -> None:
    subject, style = pair()
    points = turning_points(subject, style)
    each = [chosen(subject, style, step) for step in range(STEPS)]
    assert each == [by_points(points, step) for step in range(STEPS)]
    assert len({tuple(one.items()) for one in each}) > 3  # it goes over layer by layer
    turned = turning_points(style, subject)
    assert each != [by_points(turned, step) for step in range(STEPS)]


def test_strength_on_the_whole_has_no_say() -> None:
    subject, style = pair()
    quiet = {path: LowRank(u.down, -u.up, 0.02 * u.alpha) for path, u in style.components["unet"].items()}
    points = turning_points(subject, style)
    assert turning_points(subject, replace(style, components={"unet": quiet})) == pytest.approx(points)
    one = {**style.components["unet"], "mid.0": quiet["mid.0"]}
    assert turning_points(subject, replace(style, components={"unet": one}))["mid.0"] > points["mid.0"] + 1


def test_a_layer_that_does_nothing_is_the_others() -> None:
    subject, style = pair()
    still = style.components["unet"]["mid.1"]
    dead = {**style.components["unet"], "mid.1": LowRank(still.down, 0 * still.up, 1.0)}
    points = turning_points(subject, replace(style, components={"unet": dead}))
    assert points["mid.1"] == float("inf") and max(v for k, v in points.items() if k != "mid.1") < 5


def test_nothing_in_common() -> None:
    subject, style = pair()
    alone = Adapter("ink", {"unet": {"apart.2": style.components["unet"]["mid.0"]}})
    with pytest.raises(AdapterError, match="'cat' and 'ink' have no module of the unet that both change"):
        turning_points(subject, alone)
