"""Which modules carry the adapter: those that are asked for, but for what nothing can be learnt in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from lorastyle.bank import PRESETS, select_targets
from lorastyle.bases import StableDiffusion
from lorastyle.errors import ConfigError, TargetError

Targets = dict[str, tuple[str, ...]]


def find_targets(
    base: StableDiffusion,
    patterns: Sequence[str],
    *,
    unet: bool,
    text_encoder: bool,
    clip_skip: int,
    resolution: int,
) -> tuple[Targets, tuple[str, ...]]:
    """Module paths for each component, and what a person should know of those that are left out. Presets mean
    every component; names and globs mean the UNet.

    Args:
        base: without a bank on it.
        unet, text_encoder: whether they are trained.

    Raises:
        ConfigError: neither is.
        TargetError: a pattern names no module, or none in which anything can be learnt.
    """
    if not unet and not text_encoder:
        raise ConfigError("lr and text_encoder_lr are both 0, so there is nothing to train; set one of them.")
    targets: Targets = {}
    notes: tuple[str, ...] = ()
    if unet:
        found = select_targets(base.components["unet"], patterns, "unet")
        idle = alone(base.components["unet"], resolution // base.pixels_per_latent).intersection(found)
        targets["unet"] = tuple(path for path in found if path not in idle)
        if idle:
            notes = (_told(resolution, len(idle)),)
    if text_encoder:
        own = [pattern for pattern in patterns if pattern in PRESETS] or ["attention+ff"]
        for component in base.text_encoders:
            unread = base.unread_layers(component, clip_skip)
            found = select_targets(base.components[component], own, component)
            targets[component] = tuple(path for path in found if _layer(path) not in unread)
    targets = {component: paths for component, paths in targets.items() if paths}
    if not targets:
        raise TargetError(
            f"{' '.join(notes)} Nothing else is among the targets {', '.join(patterns)}. Train at a larger "
            "--resolution, or choose other --targets.".strip()
        )
    return targets, notes


def alone(unet: nn.Module, side: int) -> frozenset[str]:
    """Paths of queries and keys that no gradient reaches: of self-attention that sees one place only.

    Its softmax over a single key is 1 whatever query and key are. SD 1.5 halves latents three times: pictures
    of 64 pixels are one place in its middle.

    Args:
        side: of the square latents.
    """
    blocks = tuple(f"{block}." for block, places in _sides(unet, side) if places == 1)
    return frozenset(
        f"{path}.{name}"
        for path, layer in unet.named_modules()
        if path.startswith(blocks) and getattr(layer, "is_cross_attention", None) is False
        for name in ("to_q", "to_k")
    )


def _sides(unet: Any, side: int) -> Iterator[tuple[str, int]]:
    """The blocks of a UNet, and the side of what each one's attention sees."""
    entered: list[int] = []
    for index, block in enumerate(unet.down_blocks):
        yield f"down_blocks.{index}", side
        entered.append(side)
        if block.downsamplers:
            side = (side + 1) // 2
    yield "mid_block", side
    for index, side in enumerate(reversed(entered)):
        yield f"up_blocks.{index}", side


def _told(resolution: int, count: int) -> str:
    return (
        f"At {resolution} pixels the deepest self-attention sees one place, and has nothing to choose from: "
        f"{count} of its queries and keys would learn nothing and are left out."
    )


def _layer(path: str) -> int | None:
    """7 of `text_model.encoder.layers.7.mlp.fc1`."""
    found = re.search(r"\blayers\.(\d+)\.", path)
    return int(found[1]) if found else None
