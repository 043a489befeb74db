"""How long does it take to merge two SDXL adapters of rank 32 into one, beside a dense SVD?

lorastyle merges all 722 modules of the UNet: from two files to a file, with reading and checked writing told
apart. The dense SVDs would take a quarter of an hour, so of each shape one is timed and counts for all its
modules: that sum is extrapolated, and said so. Both make the same updates, which is checked on the sample.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from lorastyle.adapters import (
    Adapter,
    LowRank,
    MergeSettings,
    PartFile,
    Weighted,
    merge,
    merge_files,
    save_adapter,
)

from .shapes import shapes

SCALES = (0.8, 0.5)


def merging(args: argparse.Namespace) -> None:
    """`speed merge`."""
    torch.set_num_threads(args.threads)
    settings = MergeSettings("svd", args.rank)
    adapters = [_random(f"{n}", args.rank, seed=n) for n in range(2)]
    parts = [Weighted(adapter, scale) for adapter, scale in zip(adapters, SCALES, strict=True)]
    started = time.perf_counter()
    merged = merge(parts, settings)
    alone = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        files = [
            PartFile(save_adapter(adapter, Path(folder) / f"{adapter.name}.safetensors"), scale)
            for adapter, scale in zip(adapters, SCALES, strict=True)
        ]
        started = time.perf_counter()
        merge_files(files, Path(folder) / "both.safetensors", settings)
        whole = time.perf_counter() - started
    dense, timed, apart = _dense(adapters, merged.adapter, args.rank)
    count = len(merged.modules)
    console = Console(soft_wrap=True)
    console.print(
        f"Two adapters of rank {args.rank} for SDXL's UNet into one of rank {args.rank}, {count} modules, "
        f"{args.threads} thread{'s' * (args.threads != 1)}:"
    )
    console.print(f"  lorastyle, without a dense matrix    {alone:8.1f} s")
    console.print(f"  the same from files to a file        {whole:8.1f} s")
    console.print(f"  dense SVD, extrapolated from {timed}       {dense:8.0f} s   {dense / alone:.0f} times")
    console.print(
        f"Both are the same update within {apart:.0e}; it leaves out {merged.error:.0%} of the norm."
    )
    console.print(f"Load average of the machine at the end: {os.getloadavg()[0]:.1f}.")


def _random(name: str, rank: int, *, seed: int) -> Adapter:
    random = torch.Generator().manual_seed(seed)
    paths = shapes("sdxl")["unet"]

    def update(shape: tuple[int, ...]) -> LowRank:
        down = torch.randn(rank, *shape[1:], generator=random) / shape[1] ** 0.5
        return LowRank(down, torch.randn(shape[0], rank, generator=random) * 0.1, float(rank))

    updates = {path: update(shape) for path, shape in paths.items()}
    return Adapter(name, {"unet": updates}, {"lorastyle.base": "sdxl"})


def _dense(adapters: list[Adapter], merged: Adapter, rank: int) -> tuple[float, int, float]:
    """Seconds that dense SVDs of all modules would take, of how many samples, and the largest difference."""
    paths = shapes("sdxl")["unet"]
    counted = Counter(paths.values())
    samples = {shape: path for path, shape in paths.items()}
    total = apart = 0.0
    for shape, path in samples.items():
        started = time.perf_counter()
        best = _truncated(adapters, path, rank)
        total += counted[shape] * (time.perf_counter() - started)
        found = merged.components["unet"][path].delta()
        apart = max(apart, float((found - best).norm() / best.norm()))
    if apart > 1e-3:
        raise SystemExit(f"the two do not make the same update: {apart:.1e}")
    return total, len(samples), apart


def _truncated(adapters: list[Adapter], path: str, rank: int) -> Tensor:
    """What a tool does that forms the matrix."""
    updates = [adapter.components["unet"][path] for adapter in adapters]
    summed = torch.stack([scale * u.delta() for scale, u in zip(SCALES, updates, strict=True)]).sum(0)
    u, values, vh = torch.linalg.svd(summed, full_matrices=False)
    return u[:, :rank] * values[:rank] @ vh[:rank]
