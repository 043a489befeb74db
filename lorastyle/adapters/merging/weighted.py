"""What goes into a merge: adapters of one family, each with its scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from lorastyle.errors import AdapterError, BaseMismatchError
from lorastyle.notes import note

from ..adapter import Adapter
from ..block_weights import BlockWeights
from ..families import family_title
from ..report import AdapterWarning

UNUSUAL_SCALE = 10.0
Weights: TypeAlias = Callable[[str, str], Tensor]
"""(component, module path) -> the base's weight, for updates that depend on it."""


@dataclass(frozen=True)
class Weighted:
    """One adapter of several, and how much of it.

    Attributes:
        scale: the user's multiplier: 1 as trained, negative the opposite.
        te, unet: the multipliers for the text encoders and for the UNet, where they are not `scale`.
        blocks: a further factor for each block; None is 1 everywhere.
        hash: sha256 of its weights, where it came from a file; recorded in what is made of it.
    """

    adapter: Adapter
    scale: float = 1.0
    blocks: BlockWeights | None = None
    hash: str | None = None
    te: float | None = None
    unet: float | None = None

    @property
    def scales(self) -> dict[str, float]:
        """Every multiplier by the name that it is given with."""
        named = {"scale": self.scale, "te": self.te, "unet": self.unet}
        return {name: scale for name, scale in named.items() if scale is not None}

    @property
    def is_used(self) -> bool:
        """Whether any of it is left at these multipliers."""
        return any(self.scale_on(component) != 0 for component in ("unet", "text_encoder"))

    def scale_on(self, component: str) -> float:
        """The multiplier for "unet" or a text encoder."""
        own = self.unet if component == "unet" else self.te
        return self.scale if own is None else own

    def factor(self, component: str, path: str) -> float:
        """By how much the adapter's own update of a module is multiplied."""
        return self.scale_on(component) * (1.0 if self.blocks is None else self.blocks.at(component, path))

    def __str__(self) -> str:
        """As the command line names it: cat:0.8:te=0."""
        own = "".join(f":{name}={scale:g}" for name, scale in self.scales.items() if name != "scale")
        return f"{self.adapter.name}:{self.scale:g}{own}"


def check_parts(parts: Sequence[Weighted]) -> None:
    """Do they go together?

    Warns:
        AdapterWarning: a scale of 0, or beyond +-10.

    Raises:
        BaseMismatchError: they were made for different families.
        AdapterError: there are none, a scale is no finite number, or all are 0.
    """
    if not parts:
        raise AdapterError("Name at least one adapter.")
    for part in parts:
        for name, scale in part.scales.items():
            if not math.isfinite(scale):
                raise AdapterError(
                    f"The {name} of {part.adapter.name!r} is {scale}; a finite number is needed, 1 is as "
                    "trained."
                )
            if abs(scale) > UNUSUAL_SCALE:
                note(
                    f"The {name} of {part.adapter.name!r} is {scale:g}; beyond {UNUSUAL_SCALE:g} pictures "
                    "break up.",
                    AdapterWarning,
                    stacklevel=3,
                )
    if not any(part.is_used for part in parts):
        raise AdapterError("Every scale is 0, so nothing is left to put together.")
    for part in parts:
        if not part.is_used:
            note(
                f"The scale of {part.adapter.name!r} is 0, so none of it is used.",
                AdapterWarning,
                stacklevel=3,
            )
    families = {family: part.adapter.name for part in parts if (family := part.adapter.family) is not None}
    if len(families) > 1:
        listed = ", ".join(f"{name!r} for {family_title(family)}" for family, name in families.items())
        raise BaseMismatchError(
            f"These adapters were made for different bases: {listed}. Only those of one family go together."
        )
