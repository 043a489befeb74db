"""What the Train tab shows: escaped, and true to the run."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lorastyle.train import RunStatus
from lorastyle.train.status import State
from lorastyle.ui import train_view
from lorastyle.ui.curve import HEIGHT, MOST_POINTS, WIDTH, curve, smoothed, thinned
from lorastyle.ui.trainings import Prospect
from lorastyle.ui.tray import Verdict

EVIL = '"><img src=x onerror=alert(1)>'
TRAINING = RunStatus(
    "ink",
    Path("/library/ink.run"),
    "training",
    trigger="ink",
    step=30,
    steps=120,
    losses=tuple((step, 0.1) for step in range(1, 31)),
    seconds_left=75.0,
    images_per_second=4.0,
)


def test_nothing_of_a_stranger_is_html() -> None:
    verdict = Verdict(EVIL, "left out", EVIL, EVIL, None, (EVIL,))
    prospect = Prospect([verdict, replace(verdict, verdict="used")], problem=EVIL, notes=(EVIL,))
    status = replace(TRAINING, name=EVIL, state="failed", error=EVIL, warnings=(EVIL,), what=EVIL)
    shown = [train_view.tray(prospect, [EVIL]), train_view.plan(prospect), train_view.run(status)]
    shown += [train_view.plan_rows([(EVIL, EVIL), ("steps", EVIL)], EVIL)]
    shown += [train_view.run(replace(status, state="preparing", total=3))]
    for html in shown:
        assert "<img" not in html and "&lt;img" in html


def test_the_tray_counts() -> None:
    verdicts = [Verdict("a.png", "used"), Verdict("b.png", "left out", "broken"), Verdict("a.txt", "words")]
    shown = train_view.tray(Prospect(verdicts))
    assert "<b>1 picture</b> to train on, <b>1</b> left out" in shown and "is few" in shown
    assert shown.count('class="lt-card') == 3
    assert re.findall(r'data-remove="([^"]+)"', shown) == ["*", "a.png", "b.png", "a.txt"]
    assert "is few" not in train_view.tray(Prospect([Verdict(f"{i}.png", "used") for i in range(5)]))
    assert train_view.tray(Prospect([])) == ""


def test_the_plan_is_in_words_of_the_page() -> None:
    rows = [
        ("pictures", "3 used"),
        ("  dropped", "x.png: broken"),
        ("kind", "style (3 different captions (if they show one thing, name it with --class))"),
        ("file", "/secret/library/ink.safetensors (0.3 MB)"),
        ("steps", "600, 4 pictures each"),
    ]
    shown = train_view.plan_rows(rows, "Plan")
    assert "secret" not in shown and "ink.safetensors (0.3 MB)" in shown
    assert "--class" not in shown and "x.png" not in shown
    assert shown.index("600, 4") < shown.index("<details>") < shown.index("3 used")


def test_a_run_is_shown_as_far_as_it_is() -> None:
    shown = train_view.run(TRAINING)
    assert 'aria-valuenow="25"' in shown and ">training</span>" in shown
    for fact in ("step <b>30</b> of 120", "loss <b>0.1000</b>", "4.0 pictures", "<b>1 min 15 s</b> left"):
        assert fact in shown
    assert ">stopping</span>" in train_view.run(replace(TRAINING, stopping=True))
    preparing = replace(TRAINING, state="preparing", what="encoding pictures", done=3, total=12, losses=())
    assert 'aria-valuenow="25"' in train_view.run(replace(preparing, step=0))
    assert "encoding pictures 3 of 12" in train_view.run(preparing)
    assert "lt-waiting" in train_view.run(replace(TRAINING, state="queued", step=0, losses=()))
    assert "appears here" in train_view.run(None) == train_view.run(replace(TRAINING, state="none"))


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [
        ("finished", "", "Its word is &quot;ink&quot;."),
        ("stopped", "", "Stopped after 30 steps."),
        ("failed", "No room in /library/ink.run.", "No room in ink.run."),
        ("crashed", "It was killed.", "<strong>It broke off.</strong> It was killed."),
    ],
)
def test_an_end_is_told(state: State, error: str, said: str) -> None:
    status = replace(TRAINING, state=state, error=error)
    assert said in train_view.run(status) and said not in train_view.run(TRAINING)
    assert ("Go on from" in train_view.run(replace(status, can_resume=True))) == bool(error)
    assert "Go on from" not in train_view.run(status)


def points(svg: str) -> list[list[tuple[float, float]]]:
    """Of each line."""
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())]
        for line in re.findall(r'points="([^"]+)"', svg)
    ]


def test_the_curve_falls_with_the_loss_and_stays_inside() -> None:
    losses = [(step, math.exp(-step / 300) + (step % 7) / 50) for step in range(1, 2001)]
    each, mean = points(curve(losses, 4000))
    for line in (each, mean):
        assert len(line) <= MOST_POINTS + 1
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in line)
        assert line == sorted(line, key=lambda point: point[0])
        assert line[0][1] < line[-1][1] and 0.4 * WIDTH < line[-1][0] < 0.6 * WIDTH
    assert curve(losses[:1], 4000) == "" and len(points(curve(losses[:2], 4000))) == 2
    assert all(math.isfinite(y) for line in points(curve([(1, 0.5), (2, 0.5)], 2)) for _, y in line)


def test_running_means_are_not_pulled_to_the_first_value() -> None:
    assert smoothed([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    rising = smoothed([0.0, 1.0])
    assert rising[0] == 0.0 and 0.5 < rising[1] < 0.6
    assert [step for step, _ in thinned([(i, 1.0) for i in range(1, 5001)])][-1] == 5000
