"""How long does it take to lower the ranks of an adapter, beside an SVD of the dense updates?

    python -m benchmarks.resize           # SDXL, rank 32 on attention, feed-forward and the text encoders

Both make the same updates of rank 8, which is checked. lorastyle does all modules; of the dense SVDs, which
take minutes, one of each shape is timed and counts for all modules of it. float32, random factors.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.models import make_clip_big_g, make_clip_l, make_unet
from lorastyle.adapters import LowRank
from lorastyle.bank import adaptable_modules, select_targets

RANK, SMALLER, ROUNDS = 32, 8, 3


def shapes() -> Counter[tuple[int, int]]:
    """(out, in) of SDXL's linear modules that carry an adapter, counted."""
    counted: Counter[tuple[int, int]] = Counter()
    with torch.device("meta"):
        encoders = {"text_encoder": make_clip_l(), "text_encoder_2": make_clip_big_g()}
        models: dict[str, nn.Module] = {"unet": make_unet("sdxl"), **encoders}
    for component, model in models.items():
        modules = adaptable_modules(model)
        for path in select_targets(model, ("attention+ff",), component):
            module = modules[path]
            assert isinstance(module, nn.Linear)
            counted[module.out_features, module.in_features] += 1
    return counted


def update(shape: tuple[int, int]) -> LowRank:
    return LowRank(torch.randn(RANK, shape[1]), torch.randn(shape[0], RANK), float(RANK))


def dense_svd(one: LowRank) -> Tensor:
    """What a tool does that forms the matrix: the update at the smaller rank."""
    u, values, vh = torch.linalg.svd(one.delta(), full_matrices=False)
    return u[:, :SMALLER] * values[:SMALLER] @ vh[:SMALLER]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    torch.manual_seed(0)
    counted = shapes()
    table = Table(title=f"rank {RANK} to {SMALLER}, SDXL; milliseconds a module")
    for heading in ("shape", "modules", "lorastyle", "dense SVD", "ratio", "apart"):
        table.add_column(heading, justify="right")
    ours = theirs = 0.0
    for shape, count in sorted(counted.items()):
        one = update(shape)
        quick = statistics.median(seconds(lambda one=one: one.truncate(SMALLER)) for _ in range(ROUNDS))
        slow = seconds(lambda one=one: dense_svd(one))
        best = dense_svd(one)
        apart = float((one.truncate(SMALLER).delta() - best).norm() / best.norm())
        if apart > 1e-3:
            raise SystemExit(f"{shape}: both are not the same update ({apart:.1e})")
        ours, theirs = ours + count * quick, theirs + count * slow
        table.add_row(
            f"{shape[0]} x {shape[1]}", str(count), f"{1000 * quick:.1f}", f"{1000 * slow:.0f}",
            f"{slow / quick:.0f}", f"{apart:.0e}",
        )  # fmt: skip
    Console().print(table)
    done = sum(counted.values())
    told = f"{done} modules: lorastyle {ours:.1f} s, dense SVD {theirs:.0f} s, {theirs / ours:.0f} times"
    Console().print(told)


if __name__ == "__main__":
    main()
