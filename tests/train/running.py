"""Short runs on the tiny pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lorastyle.adapters import Adapter, load_adapter
from lorastyle.bases import StableDiffusion
from lorastyle.train import StepDone, TrainConfig
from tests.tiny import tiny_pipeline


def tiny_base(dtype: torch.dtype = torch.float32) -> StableDiffusion:
    """A base of 64 x 64 pictures with random weights, the same at every call."""
    return StableDiffusion(tiny_pipeline(), name="tiny", dtype=dtype)


def make_pictures(folder: Path, count: int = 3) -> Path:
    """A folder of simple drawings."""
    folder.mkdir(parents=True)
    for i in range(count):
        picture = Image.new("RGB", (80, 64), "white")
        ImageDraw.Draw(picture).ellipse((10, 4 + 3 * i, 60, 60), fill=("red", "green", "blue")[i % 3])
        picture.save(folder / f"ball{i}.png")
    return folder


def short(images: Path, out: Path, **changes: object) -> TrainConfig:
    """Settings of a run that takes a second or two."""
    settings: dict[str, object] = {
        "images": str(images),
        "out": str(out),
        "trigger": "ink",
        "steps": 4,
        "rank": 2,
        "batch_size": 2,
        "lr": 1e-3,
        "targets": ("attention",),
        "sample_prompts": ("a cat",),
        "sample_every": 0,
    }
    return TrainConfig(**{**settings, **changes})  # type: ignore[arg-type]  # a mapping of its own fields


def factors(path: Path, base: StableDiffusion) -> dict[str, Tensor]:
    """Every tensor of an adapter file, by module."""
    adapter: Adapter = load_adapter(path, base.module_names())
    return {
        f"{component}.{module}.{name}": tensor
        for component, module, update in adapter.updates()
        for name, tensor in (("down", update.down), ("up", update.up))
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two adapters are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def listener(
    events: list[object], then: Callable[[object], None] = lambda event: None
) -> Callable[[object], None]:
    """Collects events, and then does something with each."""

    def hear(event: object) -> None:
        events.append(event)
        then(event)

    return hear


def stop_at(step: int) -> Callable[[object], None]:
    """A listener that stops the run after a step."""

    def stop(event: object) -> None:
        if isinstance(event, StepDone) and event.step == step:
            raise KeyboardInterrupt

    return stop
