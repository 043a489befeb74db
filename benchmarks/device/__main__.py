"""`python -m benchmarks.device`: what is measured, and in which order: most valuable first."""

from __future__ import annotations

import argparse
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from rich.console import Console

from benchmarks.speed import random_adapters, twin
from lorastyle.bases import StableDiffusion

from . import __doc__ as ABOUT
from . import compiled, drawing, modes, training
from .models import FAMILIES, make_base
from .rows import Recorder, Row, read_rows, show, told
from .turns import Card, Contest

TITLES = {
    "train": training.SECTION,
    "draw": drawing.CALLS,
    "picture": drawing.PICTURE,
    "modes": modes.SECTION,
    "compile": compiled.SECTION,
}
SECTIONS = tuple(TITLES)
# Seconds that a section of a family takes on an H100, as guessed: what does not fit the budget is left out.
# "modes" is for one of them, "compile" for one contender.
COSTS: dict[str, dict[str, float]] = {
    "sd15": {"train": 15, "draw": 20, "picture": 10, "modes": 8, "compile": 45},
    "sdxl": {"train": 45, "draw": 45, "picture": 25, "modes": 20, "compile": 110},
}
RANK = 16


@dataclass(frozen=True)
class Bench:
    """A family at hand: its base, and a twin of its UNet that nothing is ever attached to."""

    name: str
    base: StableDiffusion
    plain: UNet2DConditionModel
    card: Card
    recorder: Recorder
    rounds: int
    warmup: int

    @property
    def title(self) -> str:
        return FAMILIES[self.name].title

    def train(self) -> None:
        for batch, checkpointed in ((1, False), (4, False), (1, True)):
            plan = training.plan_of(self.base, batch=batch, checkpointed=checkpointed)
            setting = {"model": self.title, "batch": batch, "checkpointing": "yes" if checkpointed else "no"}
            makers: dict[str, Callable[[], Any]] = {
                "lorastyle": partial(training.own_step, self.base, plan),
                "diffusers + peft": partial(training.peft_step, self.base, self.plain, plan),
            }
            self._race(training.SECTION, setting, makers, pictures=batch)

    def draw(self) -> None:
        for count in (1, 4):
            adapters = random_adapters(self.plain, count, RANK)
            setting: dict[str, str | int] = {"model": self.title, "adapters": count}
            makers = drawing.calling(self.base, self.plain, adapters)
            with Contest[drawing.Caller](self.card, self.recorder, drawing.CALLS, setting, makers) as contest:
                for batch in (2, 8):
                    inputs = drawing.Inputs.of(self.base, batch)
                    contest.race(
                        {"batch": batch},
                        lambda caller, inputs=inputs: caller.call(inputs),
                        lambda seconds: {"ms": 1000 * seconds},
                        warmup=self.warmup,
                        rounds=self.rounds,
                    )

    def picture(self) -> None:
        (adapter,) = random_adapters(self.plain, 1, RANK)
        makers = drawing.drawing(self.base, self.plain, adapter)
        with Contest[Callable[[], object]](
            self.card, self.recorder, drawing.PICTURE, {"model": self.title}, makers
        ) as contest:
            contest.race({}, _call, lambda seconds: {"s": seconds}, warmup=1, rounds=min(3, self.rounds))

    def compile(self, estimate: float, backend: str) -> None:
        compiled.measure(
            self.name,
            self.base,
            self.plain,
            random_adapters(self.plain, 1, RANK),
            self.card,
            self.recorder,
            estimate=estimate,
            rounds=self.rounds,
            backend=backend,
        )

    def _race(
        self,
        section: str,
        setting: dict[str, str | int],
        makers: dict[str, Callable[[], Any]],
        *,
        pictures: int,
    ) -> None:
        with Contest[Callable[[], object]](self.card, self.recorder, section, setting, makers) as contest:
            contest.race(
                {},
                _call,
                lambda seconds: {"ms": 1000 * seconds, "pictures/s": pictures / seconds},
                warmup=self.warmup,
                rounds=self.rounds,
            )


def _call(contender: Callable[[], object]) -> object:
    return contender()


def run(args: argparse.Namespace, recorder: Recorder) -> None:
    """Every section of every family that fits the budget; a section that breaks is a row."""
    device = torch.empty(0, device=args.device).device
    card = Card(device)
    _warm(card)
    costs = {name: dict.fromkeys(SECTIONS, 0.0) if args.tiny else COSTS[name] for name in args.families}

    def guarded(name: str, section: str, work: Callable[[], None], who: str = "everything") -> None:
        if section not in args.sections:
            return
        setting = {"model": FAMILIES[name].title}
        if not recorder.room_for(costs[name][section], TITLES[section], setting, [who]):
            return
        try:
            work()
        except Exception as error:
            recorder.add(Row(TITLES[section], setting, who, error=told(error)))
            error.__traceback__ = None
        card.free()

    def at_hand(name: str, sections: Sequence[str]) -> None:
        if not set(sections) & set(args.sections):
            return
        try:
            base = make_base(name, device, tiny=args.tiny)
            plain = twin(base.pipe.unet)
        except Exception as error:
            recorder.add(Row("loading", {"model": FAMILIES[name].title}, "everything", error=told(error)))
            return
        bench = Bench(name, base, plain, card, recorder, args.rounds, args.warmup)
        for section in sections:
            work = (
                partial(bench.compile, costs[name]["compile"], args.backend)
                if section == "compile"
                else getattr(bench, section)
            )
            guarded(name, section, work)
        del base, plain, bench
        card.free()

    for name in args.families:
        at_hand(name, ("train", "draw", "picture"))
    for name in args.families:
        for mode in modes.NAMES:
            work = partial(modes.measure, name, mode, card, recorder, tiny=args.tiny)
            guarded(name, "modes", work, f"lorastyle, {mode}")
    for name in args.families:
        if args.compile == "all" or args.compile == name:
            at_hand(name, ("compile",))


def _warm(card: Card) -> None:
    """Libraries take their working space of the device before anybody is measured."""
    x = torch.ones(256, 256, device=card.device, dtype=torch.bfloat16)
    (x @ x).sum().item()
    torch.nn.functional.conv2d(x[None, None], x[None, None, :3, :3])
    card.wait()


def machine(device: str) -> dict[str, str]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    found = {"device": name, "python": platform.python_version()}
    for package in ("torch", "diffusers", "transformers", "peft", "accelerate", "bitsandbytes"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    if device.startswith("cuda"):
        found |= {
            "CUDA": str(torch.version.cuda),
            "memory": f"{torch.cuda.get_device_properties(device).total_memory / 1e9:.0f} GB",
        }
    return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.device",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, help="the folder for device.json")
    parser.add_argument("--show", type=Path, metavar="FOLDER", help="print the tables of a run, and no more")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--budget", type=float, default=240, help="seconds; what does not fit is left out")
    parser.add_argument("--device", help="cuda where there is one, else the processor")
    parser.add_argument("--tiny", action="store_true", help="small models on the processor, few rounds")
    parser.add_argument("--compile", choices=("none", *FAMILIES, "all"), default="sd15")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--warmup", type=int, help="3, or 1 with --tiny")
    parser.add_argument("--rounds", type=int, help="8, or 2 with --tiny")
    args = parser.parse_args(arguments)
    if args.out is None and args.show is None:
        parser.error("give --out a folder")
    args.device = args.device or ("cuda" if torch.cuda.is_available() and not args.tiny else "cpu")
    args.warmup = args.warmup or (1 if args.tiny else 3)
    args.rounds = args.rounds or (2 if args.tiny else 8)
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    console = Console(width=200)
    if args.show is not None:
        show(console, *read_rows(args.show))
        return 0
    recorder = Recorder(args.out, machine(args.device), args.budget)
    threads = torch.get_num_threads()
    try:
        if args.tiny:
            torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(args, recorder)
    finally:
        torch.set_num_threads(threads)
        show(console, *read_rows(args.out))
    return 1 if recorder.failed else 0


if __name__ == "__main__":
    sys.exit(main())
