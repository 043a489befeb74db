"""An adapter: updates per module of each component of a base, and what is known about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from lorastyle.errors import AdapterError, near_miss

from .families import cross_attention_width, family_from_metadata, family_from_width
from .formats import COMPONENTS
from .lowrank import LowRank
from .updates import Update


@dataclass(frozen=True, eq=False)
class Adapter:
    """Updates as data; no model in sight.

    Args:
        name: what users call it; written into files as the name that prompts of other tools use.
        components: {"unet", "text_encoder" or "text_encoder_2": {dotted module path: low-rank update}}.
        metadata: text keys and values, carried into the file (see `save_adapter` for the keys).
        dense: the updates that are not low rank, likewise. A module may have one of each.
        words: textual inversions that came with it: {word: {text encoder: vectors (n, width)}}.

    Raises:
        AdapterError: an empty name, or a component that no base has.
    """

    name: str
    components: Mapping[str, Mapping[str, LowRank]]
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    dense: Mapping[str, Mapping[str, Update]] = field(default_factory=dict[str, Mapping[str, Update]])
    words: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict[str, Mapping[str, Tensor]])

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise AdapterError("An adapter needs a name; this one is empty.")
        for component in (*self.components, *self.dense):
            if component not in COMPONENTS:
                raise AdapterError(
                    f"Unknown component {component!r}; allowed are {', '.join(COMPONENTS)}."
                    f"{near_miss(component, COMPONENTS)}"
                )

    def updates(self) -> Iterator[tuple[str, str, LowRank]]:
        """Every (component, module path, update) of low rank."""
        for component, modules in self.components.items():
            for path, update in modules.items():
                yield component, path, update

    def dense_updates(self) -> Iterator[tuple[str, str, Update]]:
        """Every (component, module path, update) that is not of low rank."""
        for component, modules in self.dense.items():
            for path, update in modules.items():
                yield component, path, update

    @property
    def ranks(self) -> tuple[int, ...]:
        """The distinct ranks, in rising order."""
        return tuple(sorted({update.rank for _, _, update in self.updates()}))

    @property
    def parameters(self) -> int:
        """How many numbers the factors hold together."""
        updates = (*self.updates(), *self.dense_updates())
        return sum(update.parameters for _, _, update in updates)

    @property
    def trigger(self) -> str | None:
        """The word that calls the adapter, if the metadata names one."""
        return self.metadata.get("lorastyle.trigger") or self.metadata.get("modelspec.trigger_phrase") or None

    @property
    def family(self) -> str | None:
        """The base family it was made for: by metadata, else by the width of the text it reads, else None."""
        shapes = {path: update.shape for path, update in self.components.get("unet", {}).items()}
        for path, update in self.dense.get("unet", {}).items():
            if update.shape is not None:
                shapes[path] = update.shape
        return family_from_metadata(self.metadata) or family_from_width(cross_attention_width(shapes))

    def with_metadata(self, metadata: Mapping[str, str]) -> Adapter:
        """The same updates with these keys added or replaced."""
        return replace(self, metadata={**self.metadata, **metadata})
