"""The numbers and names that users give: checked with messages that say what is allowed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from numbers import Real
from typing import cast

from torch import nn

from lorastyle.adapters import Adapter, BlockWeights, leads_to
from lorastyle.errors import AdapterError, near_miss

from .residents import Resident

_LARGEST = 3.4e38


def finite_scale(what: str, scale: object) -> float:
    """The user's multiplier as a float.

    Raises:
        AdapterError: it is not a finite number.
    """
    # A gate is float32; what that cannot hold would be infinite there.
    if isinstance(scale, Real) and -_LARGEST <= cast(float, scale) <= _LARGEST:
        return float(scale)
    raise AdapterError(f"The scale of {what} is {scale!r}; it must be a finite number, such as 0.8.")


def trained_factor(rank: int, alpha: float | None, *, rslora: bool) -> float:
    """What multiplies `up @ down`: alpha / rank, or alpha / sqrt(rank) for rsLoRA (Kalajdzievski 2023,
    arXiv:2312.03732). alpha None means rank.

    Raises:
        AdapterError: rank is not a whole number of at least 1, or alpha is not a finite number above 0.
    """
    if not isinstance(rank, int) or rank < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise AdapterError(f"rank is {rank!r}; it must be a whole number of at least 1.")
    alpha = float(rank) if alpha is None else float(alpha)
    if not math.isfinite(alpha) or alpha <= 0:
        raise AdapterError(f"alpha is {alpha}; it must be a finite number above 0, or None for the rank.")
    return alpha / math.sqrt(rank) if rslora else alpha / rank


def probability(what: str, value: float) -> float:
    """A probability below 1.

    Raises:
        AdapterError: it is below 0, or 1 and above.
    """
    if 0 <= value < 1:
        return value
    raise AdapterError(f"{what} is {value}; it must be at least 0 and below 1.")


def known_name(name: str, names: Collection[str]) -> None:
    """Is an adapter of this name here?

    Raises:
        AdapterError: there is none.
    """
    if name not in names:
        here = ", ".join(names) or "none"
        raise AdapterError(f"No adapter {name!r} here; there are: {here}.{near_miss(name, names)}")


def free_name(name: str, names: Collection[str]) -> None:
    """Can an adapter be called so?

    Raises:
        AdapterError: the name is empty, or taken.
    """
    if not name.strip():
        raise AdapterError("An adapter needs a name; this one is empty.")
    if name in names:
        raise AdapterError(f"There is an adapter {name!r} already. Remove it first, or use another name.")


def component_of(name: str, components: Mapping[str, nn.Module]) -> nn.Module:
    """The component of this name.

    Raises:
        AdapterError: there is none.
    """
    if name not in components:
        present = ", ".join(components)
        raise AdapterError(
            f"No component {name!r} here; this bank holds {present}.{near_miss(name, components)}"
        )
    return components[name]


def with_scales(
    now: Mapping[str, Mapping[str, float]],
    given: Mapping[str, float | Mapping[str, float]],
    components: Mapping[str, nn.Module],
) -> dict[str, dict[str, float]]:
    """A copy of the scales {adapter: {component: scale}} with those that are given, in either form.

    A component that the bank holds and the adapter does not change is passed over.

    Raises:
        AdapterError: an unknown adapter or component, or a scale that is not finite.
    """
    new = {name: dict(by_component) for name, by_component in now.items()}
    for name, wanted in given.items():
        known_name(name, new)
        if not isinstance(wanted, Mapping):
            new[name] = dict.fromkeys(new[name], finite_scale(name, wanted))
            continue
        for component, scale in wanted.items():
            component_of(component, components)
            value = finite_scale(f"{name} on {component}", scale)
            if component in new[name]:
                new[name][component] = value
    return new


def check_blocks(name: str, blocks: BlockWeights, residents: Iterable[Resident]) -> None:
    """Do the paths among the weights lead to modules of the adapter?

    Raises:
        AdapterError: one does not.
    """
    if not blocks.paths:
        return
    paths = [f"{r.component}.{r.path}" for r in residents]
    for given in blocks.paths:
        if not any(leads_to(given, *path.split(".", 1)) for path in paths):
            starts = {".".join(path.split(".")[1:n]) for path in paths for n in range(2, 6)}
            raise AdapterError(
                f"{name!r} changes no module in {given!r}, which its block weights name."
                f"{near_miss(given, sorted(starts))}"
            )


def check_confinable(names: Iterable[str], adapters: Mapping[str, Adapter]) -> None:
    """Can these adapters be confined to parts of the picture?

    Raises:
        AdapterError: one is in training, or changes weights themselves, which all places share.
    """
    for name in names:
        if name not in adapters:
            raise AdapterError(f"{name!r} is being trained, and acts everywhere meanwhile.")
        if adapters[name].dense:
            raise AdapterError(
                f"{name!r} is not low rank: it changes weights, which all places of a picture share, so it "
                "cannot be confined to a part. Use it without mask, or resize it to a low rank first."
            )
