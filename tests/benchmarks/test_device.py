"""The benchmark of accelerators, as far as a processor can show it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from benchmarks.device import modes, training
from benchmarks.device.__main__ import main
from benchmarks.device.models import FAMILIES, make_base
from benchmarks.device.rows import Recorder, Row, read_rows, shown, told
from benchmarks.device.turns import Card, Contest

CPU = torch.device("cpu")


class Books(Card):
    """A card whose allocator is two numbers."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.now = self.most = 0

    def take(self, count: int) -> None:
        self.now += count
        self.most = max(self.most, self.now)

    def held(self) -> int:
        return self.now

    def forget_peak(self) -> None:
        self.most = self.now

    def peak(self) -> int:
        return self.most

    def known(self, count: float) -> float | None:
        return count


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path, {"device": "none"}, budget=100, say=lambda line: None)


def contender(
    books: Books, kept: int, wanted: int, fails: bool = False
) -> Callable[[], AbstractContextManager[Callable[[], object]]]:
    """Keeps so many bytes, wants so many more in a call, and keeps 5 from its first call on."""

    @contextmanager
    def make() -> Generator[Callable[[], object]]:
        books.take(kept)
        more = [5]

        def call() -> None:
            if fails:
                raise ValueError("no kernel\nfor this")
            books.take(wanted + sum(more))
            books.take(-wanted)
            more.clear()

        yield call
        books.take(-kept - (5 - sum(more)))

    return make


def race(
    books: Books, recorder: Recorder, **makers: Callable[[], AbstractContextManager[Callable[[], object]]]
):
    with Contest(books, recorder, "race", {"model": "toy"}, makers) as contest:
        contest.race({"batch": 2}, lambda call: call(), lambda s: {"s": s}, warmup=1, rounds=2)


def test_peaks_are_told_apart(recorder: Recorder) -> None:
    """Each is what the contender would have wanted alone, with the 100 bytes that were there before."""
    books = Books()
    books.take(100)
    race(books, recorder, small=contender(books, 10, 1), large=contender(books, 50, 1000))
    peaks = {row.contender: row.figures["peak"] for row in recorder.rows}
    assert peaks == {"small": 100 + 10 + 5 + 1, "large": 100 + 50 + 5 + 1000}
    assert books.now == 100, "both are gone"


def test_one_that_fails_is_a_row_and_the_others_go_on(recorder: Recorder, tmp_path: Path) -> None:
    books = Books()

    @contextmanager
    def never() -> Generator[Callable[[], object]]:
        raise MemoryError("full")
        yield

    race(books, recorder, good=contender(books, 1, 1), bad=contender(books, 1, 1, fails=True), absent=never)
    _, rows = read_rows(tmp_path)
    assert rows == recorder.rows
    found = {row.contender: row for row in rows}
    assert not found["good"].error and found["good"].figures["s"] is not None
    assert found["bad"].error.startswith("ValueError: no kernel (test_device.py:")
    assert found["absent"].error.startswith("MemoryError: full")
    assert recorder.failed and books.now == 0


def test_what_does_not_fit_the_budget_is_told(recorder: Recorder) -> None:
    assert recorder.room_for(50, "train", {"model": "toy"}, ["a"]) and not recorder.rows
    assert not recorder.room_for(101, "train", {"model": "toy"}, ["a", "b"])
    assert [(row.contender, row.skipped) for row in recorder.rows] == [("a", True), ("b", True)]
    assert "about 101 s wanted" in recorder.rows[0].note and not recorder.failed


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("peak", 7.125e9, "7.12 GB"), ("peak", None, "-"), ("ms", 1234.5, "1234"), ("ms", 3.14159, "3.14")],
)
def test_figures(key: str, value: float | None, expected: str) -> None:
    assert shown(key, value) == expected


def test_an_error_is_a_line() -> None:
    assert told(RuntimeError("")).startswith("RuntimeError: ")


@pytest.mark.parametrize("name", FAMILIES)
def test_bases_are_of_true_size(name: str) -> None:
    base = make_base(name, torch.device("meta"))
    unet = sum(p.numel() for p in base.components["unet"].parameters())
    assert round(unet / 1e6) == {"sd15": 860, "sdxl": 2567}[name]
    assert base.resolution == {"sd15": 512, "sdxl": 1024}[name]
    assert len(training.plan_of(base).targets["unet"]) == {"sd15": 192, "sdxl": 722}[name]


def test_a_small_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modes, "NAMES", ("fast", "nf4"))
    monkeypatch.setattr(modes, "bitsandbytes_version", lambda: None)
    arguments = ["--tiny", "--families", "sd15", "--rounds", "1", "--sections", "train", "modes"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    machine, rows = read_rows(tmp_path)
    assert machine["torch"] == version("torch")
    trained = [row for row in rows if row.section == training.SECTION]
    assert {row.contender for row in trained} == {"lorastyle", "diffusers + peft"}
    assert len(trained) == 6 and all((row.figures["ms"] or 0) > 0 for row in trained)
    kept = [row for row in rows if row.section == modes.SECTION]
    assert [row.skipped for row in kept] == [False] * 3 + [True] * 2
    assert "## memory modes" in capsys.readouterr().out


def test_a_run_that_breaks_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(training, "plan_of", broken)
    arguments = ["--tiny", "--families", "sd15", "--sections", "train", "--out", str(tmp_path)]
    assert main(arguments) == 1
    assert "ERROR RuntimeError: no such kernel" in capsys.readouterr().out
    assert isinstance(read_rows(tmp_path)[1][0], Row)


@pytest.mark.parametrize(
    ("taken", "verdict"), [(8 * 10**9, "within 8 GB"), (8 * 10**9 + 1, "more than 8 GB")]
)
def test_training_is_held_against_its_bar(recorder: Recorder, taken: int, verdict: str) -> None:
    class Taken(Books):
        def reserved(self) -> int:
            return taken

    modes.measure("sd15", "int8", Taken(), recorder, tiny=True)
    notes = {row.setting["work"]: row.note for row in recorder.rows}
    assert notes == {"draw": "", "train": verdict, "train, checkpointed": verdict}
