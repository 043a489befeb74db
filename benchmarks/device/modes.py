"""Memory modes: what drawing a picture and taking a training step really want, beside what was computed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from lorastyle.bases import MODES, StableDiffusion
from lorastyle.bases.needs import drawing_bytes
from lorastyle.generate import Engine

from .drawing import request
from .models import FAMILIES, make_base
from .rows import Recorder, Row, told
from .training import own_step, plan_of
from .turns import Card

SECTION = "memory modes, batch 1: a picture in 4 steps; a training step"
NAMES = ("fast", "offload", "int8", "nf4")


def bitsandbytes_version() -> str | None:
    try:
        return version("bitsandbytes")
    except PackageNotFoundError:
        return None


def measure(name: str, mode: str, card: Card, recorder: Recorder, *, tiny: bool) -> None:
    """One mode of one family, as rows; the base is made for it and gone afterwards."""
    setting = {"model": FAMILIES[name].title, "mode": mode}
    note = ""
    if mode == "nf4":
        found = bitsandbytes_version()
        if found is None:
            note = "skipped: bitsandbytes is not installed"
            for what in ("draw", "train"):
                recorder.add(Row(SECTION, {**setting, "work": what}, "lorastyle", note=note, skipped=True))
            return
        note = f"bitsandbytes {found}"
    try:
        base = make_base(name, card.device, tiny=tiny)
        base.placement.arrange(mode)
    except Exception as error:
        recorder.add(Row(SECTION, setting, "lorastyle", error=told(error), note=note))
        error.__traceback__ = None
        card.free()
        return
    work = {
        "draw": (_draw, False),
        "train": (_train, False),
        "train, checkpointed": (_train, True),
    }
    for what, (prepare, checkpointed) in work.items():
        bar = (FAMILIES[name].rounded if MODES[mode].bits else FAMILIES[name].bar) if what != "draw" else 0
        _row(prepare, base, checkpointed, card, recorder, {**setting, "work": what}, note, bar)
    del base
    card.free()


Prepare = Callable[[StableDiffusion, bool], Generator[tuple[Callable[[], object], int]]]


def _row(
    prepare: Prepare,
    base: StableDiffusion,
    checkpointed: bool,
    card: Card,
    recorder: Recorder,
    setting: dict[str, str],
    note: str,
    bar: int,
) -> None:
    """The peak is that of everything from before the adapter comes: words, moves and all.

    Args:
        bar: bytes that the allocator may take for it; 0 is as many as it likes.
    """
    card.free()
    card.forget_peak()
    try:
        with contextmanager(prepare)(base, checkpointed) as (call, computed):
            first = card.timed(call)
            later = min(card.timed(call) for _ in range(2)) if first < 3 else card.timed(call)
            figures = {
                "s": later,
                "first s": first,
                "peak": card.known(card.peak()),
                "reserved": card.known(card.reserved()),
                "computed": card.known(computed),
            }
        if figures["peak"]:
            figures["computed / peak"] = computed / figures["peak"]
        if bar and (taken := figures["reserved"]) is not None:
            verdict = "within" if taken <= bar else "more than"
            note = "; ".join(part for part in (note, f"{verdict} {bar / 1e9:.0f} GB") if part)
        recorder.add(Row(SECTION, setting, "lorastyle", figures, note=note))
    except Exception as error:
        recorder.add(Row(SECTION, setting, "lorastyle", error=told(error), note=note))
        error.__traceback__ = None
    card.free()


def _draw(base: StableDiffusion, checkpointed: bool) -> Generator[tuple[Callable[[], object], int]]:
    engine = Engine(base, batch_size=1)
    computed = drawing_bytes(base, MODES[base.placement.mode.name], base.resolution**2, 1)
    try:
        yield (lambda: engine.generate(request(steps=4))), computed
    finally:
        engine.bank.detach()


def _train(base: StableDiffusion, checkpointed: bool) -> Generator[tuple[Callable[[], object], int]]:
    plan = plan_of(base, checkpointed=checkpointed)
    with own_step(base, plan) as step:
        step()  # the first makes the optimiser's moments
        yield step, plan.memory_bytes
