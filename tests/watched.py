"""A base whose parts are moved on paper, for there is no accelerator here.

It is told that it computes on "cuda". What its parts are asked to do is recorded, and every part complains
when it is called while it is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from lorastyle.bases import Placement, StableDiffusion

CARD, HOME = torch.device("cuda"), torch.device("cpu")


@dataclass
class Watched:
    """A base whose parts are moved on paper only."""

    base: StableDiffusion
    at: dict[str, torch.device] = field(default_factory=dict[str, torch.device])
    moves: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    full: bool = False  # whether the card has no room

    def to(self, name: str) -> Callable[[torch.device], None]:
        def move(device: torch.device) -> None:
            self.at[name] = device
            self.moves.append((name, device.type))
            if self.full and device == CARD:
                raise torch.OutOfMemoryError("the card is full")

        return move

    def home(self) -> bool:
        return set(self.at.values()) == {HOME}


def watch(base: StableDiffusion) -> Watched:
    watched = Watched(base)
    parts: dict[str, nn.Module] = {**base.components, "vae": base.pipe.vae}
    base.placement = Placement(parts, CARD)
    for name, part in parts.items():
        watched.at[name] = HOME
        part.to = watched.to(name)  # type: ignore[method-assign]

        def there(*_: object, name: str = name) -> None:
            assert watched.at[name] == CARD, f"{name} was called where it waits"

        inner = {"vae": part.decoder if name == "vae" else part}.get(name, part)  # type: ignore[attr-defined]
        inner.register_forward_pre_hook(there)  # type: ignore[arg-type]
    return watched
