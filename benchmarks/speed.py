"""How fast is it, beside its peers, in the same run?

    python -m benchmarks.speed stack                   # 1, 4 and 8 adapters on the UNet of SD 1.5; 10 minutes
    python -m benchmarks.speed stack --quick           # a smaller UNet and fewer rounds; half a minute
    python -m benchmarks.speed load                    # a file attached, against diffusers; a minute
    python -m benchmarks.speed scales                  # new scales of eight adapters, against peft; a minute
    python -m benchmarks.speed together                # eight requests in one batch, against diffusers + peft
    python -m benchmarks.speed library                 # 5,000 adapter files listed; a minute
    python -m benchmarks.speed residents               # memory of eight adapters, off and in use; a minute
    python -m benchmarks.speed merge                   # two SDXL adapters into one; a minute

`stack`: the time of one UNet call with k adapters resident, beside the weights and fused into them, against
the bare UNet and against peft with the same factors. Random weights: time does not depend on them. The four
share their weights, take turns in every round, and the figure is the median over the rounds of the ratio
within a round, so that a busy machine slows all alike.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lorastyle.adapters import Adapter, LowRank
from lorastyle.bank import adaptable_modules, attach, select_targets

from .load import load
from .merge import merging
from .residents import residents
from .shelf import library
from .together import scales, together

SD15: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SMALL = {**SD15, "block_out_channels": (160, 320, 320, 320), "layers_per_block": 1}


@dataclass(frozen=True)
class Timing:
    """Seconds of each round for each contender, and how far ours and peft's outputs are apart."""

    adapters: int
    seconds: dict[str, list[float]]
    apart: float

    def milliseconds(self, who: str) -> float:
        return 1000 * statistics.median(self.seconds[who])

    def ratio(self, who: str) -> float:
        rounds = zip(self.seconds[who], self.seconds["base"], strict=True)
        return statistics.median(mine / base for mine, base in rounds)


def random_unet(config: dict[str, Any]) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = cast(Any, UNet2DConditionModel(**config))
    return unet.to(torch.bfloat16).eval().requires_grad_(False)


def twin(model: UNet2DConditionModel) -> UNet2DConditionModel:
    """Other module objects, the same weight tensors."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in model.parameters()})


def random_adapters(unet: nn.Module, count: int, rank: int) -> list[Adapter]:
    generator = torch.Generator().manual_seed(0)
    modules = adaptable_modules(unet)
    adapters: list[Adapter] = []
    for i in range(count):
        updates: dict[str, LowRank] = {}
        for path in select_targets(unet, ["attention"], "unet"):
            linear = cast(nn.Linear, modules[path])
            down = torch.randn(rank, linear.in_features, generator=generator) / linear.in_features**0.5
            up = torch.randn(linear.out_features, rank, generator=generator) * 0.1
            updates[path] = LowRank(down.bfloat16(), up.bfloat16(), float(rank))
        adapters.append(Adapter(f"adapter-{i}", {"unet": updates}))
    return adapters


def with_peft(unet: UNet2DConditionModel, adapters: Sequence[Adapter]) -> None:
    """The same adapters, all active, the way diffusers does it."""
    from peft import LoraConfig

    for adapter in adapters:
        updates = adapter.components["unet"]
        rank = adapter.ranks[0]
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(updates)), adapter.name)
        for path, update in updates.items():
            layer = cast(Any, unet.get_submodule(path))
            layer.lora_A[adapter.name].weight.data.copy_(update.down)
            layer.lora_B[adapter.name].weight.data.copy_(update.up)
    names = [adapter.name for adapter in adapters]
    unet.set_adapters(names, [1.0] * len(names))
    unet.requires_grad_(False)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@torch.inference_mode()
def time_stack(
    base: UNet2DConditionModel, count: int, *, rank: int, rounds: int, batch: int, side: int
) -> Timing:
    """One UNet call with `count` adapters: bare, ours and peft's, in turns. `side` is in latent pixels."""
    adapters = random_adapters(base, count, rank)
    ours, fused, peft = twin(base), twin(base), twin(base)
    for unet in (ours, fused):
        bank = attach(unet)
        for adapter in adapters:
            bank.add(adapter)
        if unet is fused:
            bank.fuse()
    with_peft(peft, adapters)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(batch, 4, side, side, generator=generator).bfloat16()
    text = torch.randn(batch, 77, base.config["cross_attention_dim"], generator=generator).bfloat16()

    def call(unet: UNet2DConditionModel) -> Tensor:
        return cast(Tensor, unet(latents, 500, text, return_dict=False)[0]).float()

    contenders = {"base": base, "lorastyle": ours, "fused": fused, "peft": peft}
    bare, mine, _, theirs = (call(unet) for unet in contenders.values())  # warms up, too
    effect, apart = float((theirs - bare).norm()), float((theirs - mine).norm())
    if apart > 0.2 * effect:
        raise SystemExit(f"ours and peft's outputs differ by {apart / effect:.0%} of what the adapters do")
    measured: dict[str, list[float]] = {who: [] for who in contenders}
    order = list(contenders)
    for _ in range(rounds):
        for who in order:
            measured[who].append(seconds(lambda unet=contenders[who]: call(unet)))
        order.append(order.pop(0))
    return Timing(count, measured, apart / effect)


def stack(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    config, side = (SMALL, 16) if args.quick else (SD15, 32)
    rounds = args.rounds or (5 if args.quick else 15)
    base = random_unet(config)
    model = "a smaller UNet" if args.quick else "SD 1.5"
    table = Table(
        title=f"One UNet call: {model}, {side * 8} px, bfloat16, batch {args.batch}, {args.threads} threads, "
        f"rank {args.rank} on attention; medians of {rounds} rounds"
    )
    contenders = ("base", "lorastyle", "fused", "peft")
    for heading in ("adapters", *contenders, "lorastyle / base", "fused / base", "peft / base", "apart"):
        table.add_column(heading, justify="right")
    for count in args.adapters:
        timing = time_stack(base, count, rank=args.rank, rounds=rounds, batch=args.batch, side=side)
        table.add_row(
            str(count),
            *(f"{timing.milliseconds(who):.0f} ms" for who in contenders),
            *(f"{timing.ratio(who):.2f}x" for who in contenders[1:]),
            f"{timing.apart:.1%}",
        )
    console = Console()
    console.print(table)
    console.print(
        "apart: how far the outputs of lorastyle and peft differ, in parts of what the adapters change; both "
        "round to bfloat16."
    )
    console.print(f"Load average of the machine at the end: {os.getloadavg()[0]:.1f}.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("stack", help="several adapters resident, against the base and peft")
    command.add_argument("--quick", action="store_true", help="a smaller UNet and fewer rounds")
    command.add_argument("--adapters", type=int, nargs="+", default=[1, 4, 8], metavar="K")
    command.add_argument("--rank", type=int, default=16)
    command.add_argument("--rounds", type=int, help="15, or 5 with --quick")
    command.add_argument("--batch", type=int, default=1, help="2 is a step with guidance")
    command.add_argument("--threads", type=int, default=2)
    command.set_defaults(run=stack)
    command = commands.add_parser("load", help="from a file to a model, against diffusers; and `info`")
    command.add_argument("--rank", type=int, default=32)
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--threads", type=int, default=2)
    command.set_defaults(run=load)
    command = commands.add_parser("library", help="listing thousands of adapter files")
    command.add_argument("--files", type=int, default=5000)
    command.add_argument("--rounds", type=int, default=3)
    command.set_defaults(run=library)
    command = commands.add_parser("residents", help="what adapters fill while they are attached")
    command.add_argument("--rank", type=int, default=16)
    command.add_argument("--threads", type=int, default=2)
    command.set_defaults(run=residents)
    command = commands.add_parser("merge", help="two SDXL adapters into one, against a dense SVD")
    command.add_argument("--rank", type=int, default=32)
    command.add_argument("--threads", type=int, default=1)
    command.set_defaults(run=merging)
    command = commands.add_parser("scales", help="new scales for eight resident adapters, against peft")
    command.add_argument("--rank", type=int, default=16)
    command.add_argument("--rounds", type=int, default=30)
    command.add_argument("--threads", type=int, default=2)
    command.set_defaults(run=scales)
    command = commands.add_parser("together", help="eight requests with an adapter each, in one batch")
    command.add_argument("--family", choices=("embedded", "sd1", "sdxl"), default="embedded")
    command.add_argument("--device", default="cpu")
    command.add_argument("--side", type=int, help="pixels; the base's own if left out")
    command.add_argument("--steps", type=int, default=10)
    command.add_argument("--rank", type=int, default=16)
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--threads", type=int, default=2)
    command.set_defaults(run=together)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
