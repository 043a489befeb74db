"""How fast a device multiplies matrices, measured within a budget of time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SMALLEST = 64
LARGEST = {"cpu": 2048, "mps": 4096, "cuda": 4096}  # sides from which the rate hardly grows
BUDGET = 0.4  # seconds a precision
PROBE = 0.05  # for what is known to be slow: float16 on a CPU
PRECISIONS = ("float32", "bfloat16", "float16")
SLOW = 2.0  # times slower than float32: worth saying

Product = Callable[[int], Callable[[], object]]
"""side -> a call that multiplies two square matrices of that side, and returns when it is done."""


@dataclass(frozen=True)
class Rate:
    """What one precision is good for on one device."""

    precision: str
    works: bool
    flops: float | None  # operations a second, the best of square products; None where it does not work
    note: str = ""


def measure_rates(device: str) -> tuple[Rate, ...]:
    """Every precision on `device`, each compared with float32."""
    import torch

    rates = [_measured(torch.device(device), precision) for precision in PRECISIONS]
    plain = rates[0].flops
    return tuple(_compared(rate, plain) for rate in rates)


def best_rate(
    product: Product, *, largest: int, budget: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Operations a second of the best product. Sides double while the next one fits the budget.

    Args:
        budget: seconds; only the first product, of the smallest side, is made whatever it takes.
    """
    product(SMALLEST)()  # starts the libraries, which may take longer than everything after it
    side, best, started = SMALLEST, 0.0, clock()
    while True:
        run = product(side)
        run()  # the first call of a size looks for its kernel
        seconds = _timed(run, clock)
        best = max(best, 2 * side**3 / seconds)
        if 2 * side > largest or clock() - started + 2 * 8 * seconds > budget:
            break
        side *= 2
    while clock() - started + seconds <= budget:
        best = max(best, 2 * side**3 / _timed(run, clock))
    return best


def _timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    run()
    return max(clock() - started, 1e-9)  # a coarse clock may stand still


def _measured(device: torch.device, precision: str) -> Rate:
    import torch

    dtype: torch.dtype = getattr(torch, precision)
    slow = device.type == "cpu" and dtype == torch.float16
    product = _product(device, dtype)
    try:
        if not _is_right(device, dtype):
            return Rate(precision, False, None, "gives wrong results")
        flops = best_rate(product, largest=LARGEST.get(device.type, 2048), budget=PROBE if slow else BUDGET)
    except (RuntimeError, TypeError, AssertionError) as error:  # what a device cannot do, in its own words
        return Rate(precision, False, None, (str(error).splitlines() or [type(error).__name__])[0])
    return Rate(precision, True, flops)


def _compared(rate: Rate, plain: float | None) -> Rate:
    if rate.flops is None or plain is None or plain / rate.flops < SLOW:
        return rate
    return replace(rate, note=f"{plain / rate.flops:.0f} times slower than float32")


def _matrices(device: torch.device, dtype: torch.dtype, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two square matrices: small ones tiled, for drawing random numbers takes longer than a product."""
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, SMALLEST, SMALLEST, generator=generator).to(device, dtype)
    return a.repeat(side // SMALLEST, side // SMALLEST), b.repeat(side // SMALLEST, side // SMALLEST)


def _product(device: torch.device, dtype: torch.dtype) -> Product:
    def of_side(side: int) -> Callable[[], object]:
        a, b = _matrices(device, dtype, side)

        def run() -> None:
            a @ b  # pyright: ignore[reportUnusedExpression]
            _wait(device)

        return run

    return of_side


def _is_right(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a small product is what float32 makes of the same numbers on the CPU, up to rounding."""
    import torch

    a, b = _matrices(device, dtype, SMALLEST)
    right = _matrices(torch.device("cpu"), torch.float32, SMALLEST)
    expected = right[0] @ right[1]
    return bool(((a @ b).float().cpu() - expected).norm() < 0.02 * expected.norm())


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
