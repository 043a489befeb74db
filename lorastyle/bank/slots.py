"""One wrapped module of the model: its layer, where it hangs, and which adapters live there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from lorastyle.adapters import LowRank

from .cross_attention import reads_words
from .layers import GatedLayer, Trainable, gated
from .mix import Mix
from .regions import Regions
from .residents import Resident
from .stacks import Stack, Wanted, make_stacks
from .tree import Place


@dataclass(eq=False)
class Slot:
    """A layer and its residents, by adapter name, in order of arrival.

    Attributes:
        places: where the model holds the module: several for a shared one.
        stacked: the residents in the layer's stack.
    """

    layer: GatedLayer
    places: list[Place]
    residents: dict[str, Resident] = field(default_factory=dict[str, Resident])
    stacked: tuple[str, ...] = ()

    @property
    def trainable(self) -> Trainable:
        found = self.layer.trainable
        assert found is not None
        return found

    def weight(self, name: str, mix: Mix) -> float:
        """What multiplies an adapter's scale here."""
        return mix.weight(name, self.residents[name].component, self.residents[name].path)

    def wanted(self, mix: Mix) -> tuple[str, ...]:
        """The frozen residents to stack: those that are off cost nothing."""
        return tuple(
            name
            for name, resident in self.residents.items()
            if resident.update is not None
            and name in mix.scales
            and mix.used(name, resident.component)
            and self.weight(name, mix) != 0
        )

    def updates(self, mix: Mix) -> list[tuple[LowRank, float]]:
        """What the layer adds to its base: the factors as they were given, not as the stack's dtype rounds
        them.
        """
        return [
            (resident.update or self.trainable.low_rank(), scale)
            for name, resident in self.residents.items()
            if (scale := mix.strength(name, resident.component, resident.path)) != 0
        ]

    def confine(self, regions: Regions | None) -> None:
        """Have the stack act by the fields of `regions`; None has it act everywhere. Text encoders see no
        picture, and are left as they are.
        """
        rows = tuple((name, _update(self, name).rank) for name in self.stacked)
        in_unet = any(resident.component == "unet" for resident in self.residents.values())
        if regions is None or not in_unet or not any(name in regions.names for name, _ in rows):
            self.layer.confine(None)
            return
        words = any(reads_words(parent, attribute) for parent, attribute in self.places)
        self.layer.confine(partial(regions.factor, rows, words=words))

    def unwrap(self) -> None:
        """Put the wrapped module back, wherever nobody has put another one since."""
        for parent, attribute in self.places:
            if getattr(parent, attribute, None) is self.layer:
                setattr(parent, attribute, self.layer.base)

    def __str__(self) -> str:
        first = next(iter(self.residents.values()))
        return f"{first.component}.{first.path}"


def wrap(modules: Sequence[nn.Module], places: Mapping[int, list[Place]]) -> dict[int, Slot]:
    """Put a gated layer in every place where these modules hang; {id of the module: its new slot}."""
    slots = {id(module): Slot(gated(module), places[id(module)]) for module in modules}
    for slot in slots.values():
        for parent, attribute in slot.places:
            parent._modules[attribute] = slot.layer  # pyright: ignore[reportPrivateUsage]
    return slots


@dataclass(frozen=True, eq=False)
class Restacked:
    """New stacks that are ready, and not yet in their layers."""

    stacks: list[tuple[Slot, tuple[str, ...], Stack | None]]

    @classmethod
    def of(cls, slots: Iterable[Slot], mix: Mix) -> Restacked:
        """For the slots whose residents in use are others than those that are stacked. Nothing changes."""
        changed = [(slot, names) for slot in slots if (names := slot.wanted(mix)) != slot.stacked]
        filled = [(slot, names) for slot, names in changed if names]
        wanted = [
            Wanted([_update(slot, name) for name in names], slot.layer.device, slot.layer.dtype)
            for slot, names in filled
        ]
        with torch.inference_mode(False):  # or they could never be used in training
            made = iter(make_stacks(wanted))
        return cls([(slot, names, next(made) if names else None) for slot, names in changed])

    def __bool__(self) -> bool:
        return bool(self.stacks)

    def move_in(self) -> None:
        """Hand the layers their stacks, with closed gates."""
        for slot, names, stack in self.stacks:
            slot.layer.hold(stack)
            slot.stacked = names


def _update(slot: Slot, name: str) -> LowRank:
    update = slot.residents[name].update
    assert update is not None
    return update
