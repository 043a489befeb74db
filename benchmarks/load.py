"""How long an adapter takes from the disk to a model, beside diffusers: `python -m benchmarks.speed load`."""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from lorastyle.adapters import load_adapter
from lorastyle.bank import adaptable_modules, attach

from .models import make_pipeline
from .shapes import shapes, write_random

_PARTS = ("unet", "text_encoder")


def load(args: argparse.Namespace) -> None:
    """Attached and taken off again in turns, each to a pipeline of its own over the same weights."""
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="lorastyle-speed-") as name:
        path = write_random("sd1", Path(name) / "adapter.safetensors", args.rank)
        size = path.stat().st_size
        ours = make_pipeline("sd1", dtype=torch.bfloat16)
        theirs = _twin(ours)
        contenders = {"lorastyle": lambda: _ours(ours, path), "diffusers": lambda: _diffusers(theirs, path)}
        seconds: dict[str, list[float]] = {who: [] for who in contenders}
        for turn in range(args.rounds + 1):
            for who, attached in contenders.items():
                taken = attached()
                if turn:  # the first warms up
                    seconds[who].append(taken)
        told = [_info(path) for _ in range(args.rounds)]
    ratios = [b / a for a, b in zip(seconds["lorastyle"], seconds["diffusers"], strict=True)]
    table = Table(
        title=f"SD 1.5, rank {args.rank}, UNet and text encoder, {size / 1e6:.0f} MB: from disk to attached; "
        f"{args.threads} threads, {args.rounds} rounds"
    )
    for heading in ("", "best", "median", "bar"):
        table.add_column(heading, justify="right")
    for who, times in seconds.items():
        table.add_row(who, f"{min(times):.3f} s", f"{statistics.median(times):.3f} s", "")
    table.add_row("diffusers / lorastyle", "", f"{statistics.median(ratios):.1f}x", "10x")
    table.add_row(
        "lorastyle info, process", f"{min(told):.2f} s", f"{statistics.median(told):.2f} s", "0.3 s"
    )
    console = Console(width=110)
    console.print(table)
    console.print(f"Load average of the machine at the end: {os.getloadavg()[0]:.1f}.")


def _ours(pipe: Any, path: Path) -> float:
    start = time.perf_counter()
    modules = {
        part: {name: tuple(module.weight.shape) for name, module in _layers(getattr(pipe, part)).items()}
        for part in _PARTS
    }
    bank = attach(pipe)
    bank.add(load_adapter(path, modules))
    taken = time.perf_counter() - start
    bank.detach()
    return taken


def _diffusers(pipe: Any, path: Path) -> float:
    start = time.perf_counter()
    pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name="adapter")
    taken = time.perf_counter() - start
    found = sum(hasattr(module, "lora_A") for part in _PARTS for module in getattr(pipe, part).modules())
    expected = sum(len(paths) for paths in shapes("sd1").values())
    pipe.unload_lora_weights()
    if found != expected:
        raise SystemExit(f"diffusers attached {found} of {expected} modules")
    return taken


def _layers(model: nn.Module) -> dict[str, Any]:
    return dict(adaptable_modules(model))


def _twin(pipe: Any) -> Any:
    """Other module objects, the same weights."""
    parts = {}
    for part in _PARTS:
        model = getattr(pipe, part)
        parts[part] = copy.deepcopy(model, {id(tensor): tensor for tensor in model.parameters()})
    return type(pipe)(**{**pipe.components, **parts}, requires_safety_checker=False)


def _info(path: Path) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "lorastyle", "info", path], capture_output=True, check=True)
    return time.perf_counter() - start
