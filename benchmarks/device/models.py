"""Stable Diffusion 1.5 and XL with random weights, made on the device; no file is read or written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.models import make_pipeline
from lorastyle.bases import StableDiffusion, open_pipeline
from lorastyle.bases.quiet import quiet

DTYPE = torch.bfloat16


@dataclass(frozen=True)
class Family:
    """A family as the benchmark knows it.

    Attributes:
        kind: as lorastyle calls it; title: as people do.
        bar: bytes of a card that training at the native size has to fit; rounded: with layers rounded.
    """

    kind: str
    title: str
    bar: int
    rounded: int


FAMILIES = {
    "sd15": Family("sd1", "SD 1.5", 8 * 10**9, 8 * 10**9),
    "sdxl": Family("sdxl", "SDXL", 16 * 10**9, 12 * 10**9),
}


def make_base(name: str, device: torch.device, *, tiny: bool = False) -> StableDiffusion:
    """A base of this family, all of it on the device; `tiny` is one of some thousand weights."""
    kind = FAMILIES[name].kind
    with quiet(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        pipe = _tiny(kind, device) if tiny else make_pipeline(kind, dtype=DTYPE, device=device)
        pipe.set_progress_bar_config(disable=True)
        return open_pipeline(pipe, name=name, family=kind, dtype=DTYPE, device=device)


def _tiny(kind: str, device: torch.device) -> Any:
    from tests.tiny import tiny_pipeline, tiny_xl_pipeline

    pipe: Any = tiny_xl_pipeline() if kind == "sdxl" else tiny_pipeline(prediction_type="epsilon")
    pipe.unet.to(DTYPE)
    return pipe.to(device)
