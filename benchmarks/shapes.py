"""Adapters of true size for Stable Diffusion of true size, whose weights need not be there for that."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import cast

import torch
from torch import nn

from lorastyle.adapters import Adapter, LowRank, save_adapter
from lorastyle.bank import adaptable_modules, select_targets

from .models import make_clip_l, make_unet

Shapes = dict[str, dict[str, tuple[int, ...]]]

FAMILIES = ("sd1", "sdxl")


@lru_cache(maxsize=2)
def shapes(family: str) -> Shapes:
    """{component: {path: shape}} of attention and feed-forward: the UNet's, and SD 1.5's text encoder's."""
    with torch.device("meta"):
        models: dict[str, nn.Module] = {"unet": make_unet(family)}
        if family == "sd1":
            models["text_encoder"] = make_clip_l()
    found: Shapes = {}
    for part, model in models.items():
        layers = adaptable_modules(model)
        paths = select_targets(model, ["attention+ff"], part)
        found[part] = {path: tuple(cast(torch.Tensor, layers[path].weight).shape) for path in paths}
    return found


def random_adapter(family: str, rank: int) -> Adapter:
    generator = torch.Generator().manual_seed(0)

    def update(shape: tuple[int, ...]) -> LowRank:
        down = torch.randn(rank, *shape[1:], generator=generator) / shape[1] ** 0.5
        up = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=generator) * 0.1
        return LowRank(down, up, float(rank))

    parts = shapes(family).items()
    return Adapter("random", {part: {path: update(s) for path, s in paths.items()} for part, paths in parts})


def write_random(family: str, path: Path, rank: int) -> Path:
    """In kohya's names and float16, as most files are."""
    return save_adapter(random_adapter(family, rank), path)
