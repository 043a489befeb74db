"""One wrapped module of the model: its layer, where it hangs, and which adapters live there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from lorastyle.adapters import LowRank

from .layers import GatedLayer, Trainable, gated
from .residents import Resident

Scales = Mapping[str, Mapping[str, float]]
"""{adapter: {component: scale}}"""


@dataclass(eq=False)
class Slot:
    """A layer and its residents, by adapter name, in order of arrival.

    `places` are the (parent, attribute) pairs where the model holds the module: several for a shared one.
    """

    layer: GatedLayer
    places: list[tuple[nn.Module, str]]
    residents: dict[str, Resident] = field(default_factory=dict[str, Resident])
    stacked: tuple[str, ...] = ()

    @property
    def trainable(self) -> Trainable:
        found = self.layer.trainable
        assert found is not None
        return found

    def scale(self, name: str, scales: Scales) -> float:
        return scales[name][self.residents[name].component]

    def refresh(self, scales: Scales) -> None:
        """Bring stack and gate up to date. Residents whose scale is zero are not stacked: they cost
        nothing.
        """
        frozen: dict[str, LowRank] = {}
        spans: list[tuple[float, int]] = []
        for name, resident in self.residents.items():
            scale = self.scale(name, scales)
            if resident.update is not None and scale != 0:
                frozen[name] = resident.update
                spans.append((scale, resident.update.rank))
        if tuple(frozen) != self.stacked:
            self.layer.stack(list(frozen.values()))
            self.stacked = tuple(frozen)
        for name, resident in self.residents.items():
            if resident.update is None and self.layer.trainable is not None:
                spans.append((self.scale(name, scales), self.layer.trainable.rank))
        self.layer.set_gate(torch.tensor([scale for scale, rank in spans for _ in range(rank)]))

    def updates(self, scales: Scales) -> list[tuple[LowRank, float]]:
        """What the layer adds to its base: the factors as they were given, not as the stack's dtype rounds
        them.
        """
        return [
            (resident.update or self.trainable.low_rank(), scale)
            for name, resident in self.residents.items()
            if (scale := self.scale(name, scales)) != 0
        ]

    def unwrap(self) -> None:
        """Put the wrapped module back, wherever nobody has put another one since."""
        for parent, attribute in self.places:
            if getattr(parent, attribute, None) is self.layer:
                setattr(parent, attribute, self.layer.base)

    def __str__(self) -> str:
        first = next(iter(self.residents.values()))
        return f"{first.component}.{first.path}"


def wrap(modules: Sequence[nn.Module], models: Iterable[nn.Module]) -> dict[int, Slot]:
    """Put a gated layer in every place where the models hold these modules; {id of the module: its new
    slot}.
    """
    wanted = {id(module) for module in modules}
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    parents = {id(parent): parent for model in models for parent in model.modules()}
    for parent in parents.values():
        # not named_children(), which tells of a child that hangs in two places once
        for attribute, child in parent._modules.items():  # pyright: ignore[reportPrivateUsage]
            if id(child) in wanted:
                places.setdefault(id(child), []).append((parent, attribute))
    slots = {id(module): Slot(gated(module), places[id(module)]) for module in modules}
    for slot in slots.values():
        for parent, attribute in slot.places:
            setattr(parent, attribute, slot.layer)
    return slots
