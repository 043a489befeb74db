"""The modules of a model in one walk: by path, where each hangs, and which carry adapters already."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from torch import nn

from lorastyle.errors import AdapterError

from .layers import GatedLayer

Place = tuple[nn.Module, str]
"""(parent, attribute)"""


@dataclass(eq=False)
class Tree:
    """All modules of a bank's components. The inside of a gated layer is not in it.

    Attributes:
        modules: {component: {path: module}}; one that is reached twice is under both paths.
        places: {id of a module: where it hangs, each place once}.
        layers: the gated layers, each with its place in words.
    """

    modules: dict[str, dict[str, nn.Module]] = field(default_factory=dict[str, dict[str, nn.Module]])
    places: dict[int, list[Place]] = field(default_factory=dict[int, list[Place]])
    layers: dict[GatedLayer, tuple[str, str]] = field(default_factory=dict[GatedLayer, tuple[str, str]])

    @classmethod
    def of(cls, components: Mapping[str, nn.Module]) -> Tree:
        tree = cls()
        placed: set[int] = set()  # parents whose children's places are known: two components may share them
        for component, model in components.items():
            tree._walk(component, model, placed)
        return tree

    def _walk(self, component: str, model: nn.Module, placed: set[int]) -> None:
        found = self.modules.setdefault(component, {})
        if isinstance(model, GatedLayer):  # a component that is another bank's layer
            self.layers.setdefault(model, (component, ""))
            return
        waiting: list[tuple[str, nn.Module]] = [("", model)]
        while waiting:
            prefix, parent = waiting.pop()
            new = id(parent) not in placed
            placed.add(id(parent))
            # not named_children(), which tells of a child that hangs in two places once
            for attribute, child in parent._modules.items():  # pyright: ignore[reportPrivateUsage]
                if child is None:
                    continue
                path = prefix + attribute
                found[path] = child
                if new:
                    self.places.setdefault(id(child), []).append((parent, attribute))
                if isinstance(child, GatedLayer):
                    self.layers.setdefault(child, (component, path))
                elif child is not parent:
                    waiting.append((path + ".", child))

    def refuse_other_banks(self, own: Container[nn.Module] = ()) -> None:
        """Gated layers belong to one bank: what another one holds is not touched.

        Raises:
            AdapterError: a gated layer that is not among `own`.
        """
        for layer, (component, path) in self.layers.items():
            if layer not in own:
                where = f"at {path}" if path else "the whole of it"
                raise AdapterError(
                    f"{component} has another bank's adapters on it ({where}). "
                    "Use that bank, or detach() it first."
                )
