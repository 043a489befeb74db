"""Rates are measured within a budget, by a clock that stands in for the real one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lorastyle.doctor.rates import PRECISIONS, SMALLEST, best_rate, measure_rates


class Machine:
    """Multiplies at a known rate, in time of its own."""

    def __init__(self, flops: float) -> None:
        self.flops, self.now = flops, 0.0
        self.sides: list[int] = []

    def product(self, side: int) -> Callable[[], object]:
        def run() -> None:
            self.sides.append(side)
            self.now += 2 * side**3 / self.flops

        return run

    def rate(self, largest: int, budget: float) -> float:
        return best_rate(self.product, largest=largest, budget=budget, clock=lambda: self.now)


def test_a_fast_machine_reaches_the_largest_side() -> None:
    machine = Machine(1e13)
    assert machine.rate(2048, 0.1) == pytest.approx(1e13)
    assert max(machine.sides) == 2048 and machine.now <= 0.1 * 1.01


@pytest.mark.parametrize("flops", [1e7, 1e8, 1e9, 1e10, 1e11])
def test_the_budget_holds(flops: float) -> None:
    machine = Machine(flops)
    assert machine.rate(2048, 0.05) == pytest.approx(flops)
    smallest = 2 * SMALLEST**3 / flops  # three of these are made whatever they take
    assert machine.now <= 0.05 + 3 * smallest
    assert max(machine.sides) < 2048


def test_this_processor() -> None:
    rates = measure_rates("cpu")
    assert tuple(rate.precision for rate in rates) == PRECISIONS
    assert rates[0].works and rates[0].note == "" and (rates[0].flops or 0) > 0


def test_slow_precisions_are_called_slow_by_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    flops = iter([1e11, 9e10, 1e9])

    def rate(*_: object, **__: object) -> float:
        return next(flops)

    monkeypatch.setattr("lorastyle.doctor.rates.best_rate", rate)
    assert [rate.note for rate in measure_rates("cpu")] == ["", "", "100 times slower than float32"]


def test_a_precision_that_is_wrong_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> bool:
        return False

    monkeypatch.setattr("lorastyle.doctor.rates._is_right", wrong)
    assert {(r.works, r.flops, r.note) for r in measure_rates("cpu")} == {
        (False, None, "gives wrong results")
    }


def test_a_device_that_fails_says_why() -> None:
    for rate in measure_rates("meta"):  # has no numbers to compare
        assert not rate.works and rate.flops is None and rate.note
