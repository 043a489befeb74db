"""Eight resident adapters: new scales (`python -m benchmarks.speed scales`), and eight requests with one
each, drawn at once (`python -m benchmarks.speed together`), beside diffusers + peft in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from lorastyle.adapters import save_adapter
from lorastyle.bank import attach
from lorastyle.bases import load_base, open_pipeline
from lorastyle.generate import AdapterUse, Engine, GenerateRequest

from .models import make_pipeline

COUNT = 8


def scales(args: argparse.Namespace) -> None:
    """New scales for all of them, none of them zero, in turns."""
    from .speed import SD15, random_adapters, random_unet, twin, with_peft

    torch.set_num_threads(args.threads)
    base = random_unet(SD15)
    adapters = random_adapters(base, COUNT, args.rank)
    ours, peft = twin(base), twin(base)
    bank = attach(ours)
    for adapter in adapters:
        bank.add(adapter)
    with_peft(peft, adapters)
    names = [adapter.name for adapter in adapters]

    def values(turn: int) -> list[float]:
        return [0.1 + 0.01 * (turn + i) for i in range(COUNT)]

    contenders: dict[str, Callable[[int], Any]] = {
        "lorastyle": lambda turn: bank.set_scales(dict(zip(names, values(turn), strict=True))),
        "peft": lambda turn: peft.set_adapters(names, values(turn)),
    }
    seconds: dict[str, list[float]] = {who: [] for who in contenders}
    for turn in range(args.rounds + 1):
        for who, call in contenders.items():
            start = time.perf_counter()
            call(turn)
            if turn:  # the first warms up
                seconds[who].append(time.perf_counter() - start)
    table = Table(title=f"New scales of {COUNT} adapters on the UNet of SD 1.5; medians of {args.rounds}")
    for heading in ("", "ms", "bar"):
        table.add_column(heading, justify="right")
    for who, times in seconds.items():
        bar = "1" if who == "lorastyle" else ""
        table.add_row(who, f"{1000 * statistics.median(times):.2f}", bar)
    Console().print(table)


def together(args: argparse.Namespace) -> None:
    """Eight requests in one batch, against one after another in a pipeline that holds all adapters."""
    from .speed import random_adapters

    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    dtype = torch.bfloat16
    if args.family == "embedded":
        base, theirs = (load_base("embedded", device=args.device) for _ in range(2))
        pipe: Any = theirs.pipe
    else:
        pipe = make_pipeline(args.family, dtype=dtype, device=device).to(device, dtype)
        mine = make_pipeline(args.family, dtype=dtype, device=device).to(device)
        mine.unet.load_state_dict(pipe.unet.state_dict())
        base = open_pipeline(mine, name="random", family=args.family, dtype=dtype, device=device)
    pipe.set_progress_bar_config(disable=True)
    side = args.side or base.resolution
    with TemporaryDirectory(prefix="lorastyle-together-") as folder:
        engine = Engine(base, batch_size=COUNT)
        adapters = random_adapters(pipe.unet, COUNT, args.rank)
        files = [save_adapter(a, Path(folder) / f"{a.name}.safetensors") for a in adapters]
        for file in files:
            pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=file.stem)
        request = GenerateRequest("a cat", steps=args.steps, width=side, height=side, scheduler="ddim")
        requests = [
            replace(request, seed=i, adapters=(AdapterUse(str(file)),)) for i, file in enumerate(files)
        ]
        guidance = base.guidance

        def at_once() -> None:
            engine.generate_many(requests)

        def one_by_one_ours() -> None:
            for request in requests:
                engine.generate(request)

        def one_by_one() -> None:
            for i, file in enumerate(files):
                pipe.set_adapters([file.stem], [1.0])
                with torch.autocast(device.type, dtype, enabled=args.family == "embedded"):
                    pipe(
                        "a cat", num_inference_steps=args.steps, guidance_scale=guidance, width=side,
                        height=side, generator=torch.Generator().manual_seed(i), output_type="np",
                    )  # fmt: skip

        contenders = {
            "lorastyle, at once": at_once,
            "lorastyle, one by one": one_by_one_ours,
            "diffusers + peft, one by one": one_by_one,
        }
        seconds: dict[str, list[float]] = {who: [] for who in contenders}
        for turn in range(args.rounds + 1):
            for who, call in contenders.items():
                start = time.perf_counter()
                call()
                if turn:
                    seconds[who].append(time.perf_counter() - start)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {args.threads} threads"
    table = Table(
        title=f"{COUNT} requests with an adapter each: {args.family}, {side} px, {args.steps} steps, "
        f"{where}; medians of {args.rounds}"
    )
    for heading in ("", "s", "pictures/s", "times", "bar"):
        table.add_column(heading, justify="right")
    peer = statistics.median(seconds["diffusers + peft, one by one"])
    for who, times in seconds.items():
        taken = statistics.median(times)
        bar = "2x" if who.endswith("at once") else ""
        table.add_row(who, f"{taken:.2f}", f"{COUNT / taken:.2f}", f"{peer / taken:.2f}x", bar)
    Console(width=110).print(table)
