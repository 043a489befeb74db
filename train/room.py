"""How a run uses the memory that there is: how the base is kept, gradient checkpointing, pictures a step."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial

from lorastyle.bases import (
    AUTO,
    MODES,
    StableDiffusion,
    explained,
    fits,
    free_memory,
    gigabytes,
    listed,
    rounded_modes,
)
from lorastyle.errors import BaseError, ConfigError

from .config import TrainConfig
from .costs import memory

EXACT = ("fast", "offload")


@dataclass(frozen=True)
class Room:
    """What was chosen.

    Attributes:
        mode: a name of `MODES`.
        bytes: estimated; free: that there are.
        why: for people; empty where nothing was chosen.
    """

    mode: str
    checkpointing: bool
    batch_size: int
    bytes: int
    free: int
    why: str = ""


def find_room(
    config: TrainConfig,
    base: StableDiffusion,
    *,
    small: bool,
    trainable: int,
    trained: Collection[str],
    resolution: int,
) -> Room:
    """The first way that fits: as it is, then with idle parts elsewhere, then with gradient checkpointing,
    then with fewer bits. What the user set is kept, and so is a base that somebody else loaded.

    Raises:
        BaseError: `base` is kept in another way than `config.memory` says, or in one that cannot be trained.
        ConfigError: nothing fits the card; with what each mode would want.
    """
    free = free_memory(base.device)
    each = (resolution // base.pixels_per_latent) ** 2 * (2 if config.prior else 1)

    def want(mode: str, checkpointing: bool, batch: int) -> int:
        return memory(
            base,
            MODES[mode],
            trainable=trainable,
            trained=trained,
            latent_pixels=each * batch,
            pixels=resolution**2,
            checkpointing=checkpointing,
        )

    ways = list(_ways(_modes(config, base), config.gradient_checkpointing))
    batch = config.batch_size
    if batch is None:
        exact = [way for way in ways if way[0] in EXACT] or ways
        batch = _most(base, small, partial(want, *exact[-1]), free)
    wanted = {way: want(*way, batch) for way in ways}
    open_choice = not base.placement.settled
    for (mode, checkpointing), count in wanted.items():
        if fits(count, free):
            first = next(iter(wanted.values()))
            why = explained(first, mode, count, free, base.device) if open_choice else ""
            return Room(mode, checkpointing, batch, count, free, why)
    if open_choice:
        raise ConfigError(_too_little(base, wanted, batch, resolution, free))
    mode, checkpointing = ways[-1]
    return Room(mode, checkpointing, batch, wanted[ways[-1]], free)


def _modes(config: TrainConfig, base: StableDiffusion) -> tuple[str, ...]:
    kept = base.placement.mode
    if not base.placement.settled:
        return (*EXACT, *rounded_modes()) if config.memory == AUTO else (config.memory,)
    if kept.sequential:
        raise BaseError(
            f'The base is loaded as "{kept.name}", where a gradient cannot be taken. Load it with '
            'memory="offload".'
        )
    if config.memory not in (AUTO, kept.name):
        raise BaseError(
            f'memory = "{config.memory}", but this base is loaded as "{kept.name}". Load it with '
            f'load_base(..., memory="{config.memory}"), or leave memory out.'
        )
    return (kept.name,)


def _ways(modes: tuple[str, ...], checkpointing: bool | None) -> Iterator[tuple[str, bool]]:
    """(mode, gradient checkpointing), what costs least first."""
    switches = (False, True) if checkpointing is None else (checkpointing,)
    exact = [mode for mode in modes if mode in EXACT]
    yield from ((mode, switch) for switch in switches for mode in exact)
    yield from ((mode, switch) for mode in modes if mode not in EXACT for switch in switches)


def _most(base: StableDiffusion, small: bool, want: partial[int], free: int) -> int:
    """Four pictures where they fit without rounding; a large base on a CPU takes one at a time."""
    if small:
        return 4
    if base.device.type != "cuda":
        return 1
    return next((batch for batch in (4, 2) if fits(want(batch), free)), 1)


def _too_little(
    base: StableDiffusion, wanted: dict[tuple[str, bool], int], batch: int, resolution: int, free: int
) -> str:
    told = {f"{mode}{' with gradient checkpointing' * on}": count for (mode, on), count in wanted.items()}
    less = [f"--resolution {resolution * 3 // 4 // 64 * 64}"] * (resolution >= 256)
    less += ["--batch-size 1"] * (batch > 1) + ["a smaller --rank", "--text-encoder-lr 0"]
    extra = "" if "nf4" in {mode for mode, _ in wanted} else ' pip install bitsandbytes adds the mode "nf4".'
    return (
        f"memory: training at {resolution} pixels with {batch} a step does not fit {base.device}: it would "
        f"want {listed(told)}, and {gigabytes(free)} are free. Close what else uses the card, or train with "
        f"less: {', '.join(less)}. Naming a mode, such as --memory int8, tries all the same.{extra}"
    )
