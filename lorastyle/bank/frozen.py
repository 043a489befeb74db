"""Parameters that want no gradients while an adapter is trained beside them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


class Frozen:
    """Freezes models, and gives `requires_grad` back to those parameters that had it."""

    def __init__(self) -> None:
        self._thawed_later: list[nn.Parameter] = []

    def freeze(self, models: Iterable[nn.Module]) -> None:
        for model in models:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.requires_grad_(False)
                    self._thawed_later.append(parameter)

    def thaw(self) -> None:
        for parameter in self._thawed_later:
            parameter.requires_grad_(True)
        self._thawed_later.clear()
