"""torch.compile on the UNet: what it takes, what it gives, and whether another scale compiles anew."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from benchmarks.speed import twin
from lorastyle.adapters import Adapter
from lorastyle.bases import StableDiffusion

from .drawing import Inputs, resident_peft, with_bank
from .models import FAMILIES
from .rows import Recorder, Row, told
from .turns import Card

SECTION = "torch.compile (default mode), one UNet call with guidance, batch 2, one adapter"
CONTENDERS = ("base", "lorastyle bank", "peft")


def graphs() -> int:
    """How many graphs have been compiled since `torch._dynamo.reset`."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def measure(
    name: str,
    base: StableDiffusion,
    plain: UNet2DConditionModel,
    adapters: Sequence[Adapter],
    card: Card,
    recorder: Recorder,
    *,
    estimate: float,
    rounds: int,
    backend: str = "inductor",
) -> None:
    """A row for each contender, one after the other: graphs are dropped in between.

    Args:
        estimate: seconds of a compilation, until one has been timed.
    """
    setting = {"model": FAMILIES[name].title}
    for who in CONTENDERS:
        # peft's scales are constants of its graph, so another scale compiles it a second time
        if not recorder.room_for(estimate * (2 if who == "peft" else 1), SECTION, setting, [who]):
            continue
        torch._dynamo.reset()  # pyright: ignore[reportPrivateUsage]
        try:
            figures = _one(who, base, plain, adapters, card, rounds, backend)
            estimate = 1.2 * float(figures["compile s"] or 0)
            row = Row(SECTION, setting, who, figures)
        except Exception as error:
            row = Row(SECTION, setting, who, error=told(error))
            error.__traceback__ = None
        recorder.add(row)
        card.free()
    torch._dynamo.reset()  # pyright: ignore[reportPrivateUsage]


def _one(
    who: str,
    base: StableDiffusion,
    plain: UNet2DConditionModel,
    adapters: Sequence[Adapter],
    card: Card,
    rounds: int,
    backend: str,
) -> dict[str, float | None]:
    unet: Any = twin(plain)
    bank = None
    if who == "lorastyle bank":
        unet, bank = with_bank(plain, adapters)
    elif who == "peft":
        unet = resident_peft(base, plain, adapters)
    inputs = Inputs.of(base, 2)
    eager = partial(inputs.call, unet, base.dtype)
    eager()
    plainly = statistics.median(card.timed(eager) for _ in range(rounds))
    compiled = partial(inputs.call, torch.compile(unet, backend=backend), base.dtype)
    before = graphs()
    first = card.timed(compiled)
    made = graphs() - before
    for _ in range(2):
        compiled()
    card.forget_peak()
    quick = statistics.median(card.timed(compiled) for _ in range(rounds))
    figures: dict[str, float | None] = {
        "eager ms": 1000 * plainly,
        "compiled ms": 1000 * quick,
        "compile s": first,
        "graphs": made,
        "peak": card.known(card.peak()),
    }
    if who != "base":
        before = graphs()
        if bank is not None:
            bank.set_scales({adapters[0].name: 0.7})
        else:
            unet.set_adapters([adapters[0].name], [0.7])
        figures["s after a new scale"] = card.timed(compiled)
        figures["graphs after a new scale"] = graphs() - before
    return figures
