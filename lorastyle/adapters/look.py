"""A look at the tensors of one module, whatever state they are in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lorastyle.errors import AdapterFileError

from .blocks import Block, block_of
from .formats.naming import owner
from .health import BadTensor, bad_tensors, cause_of_death
from .load import Modules, weight_shape
from .matching import Group, fit
from .measure import Measure, measure
from .numbers import read_numbers
from .source import Source
from .updates import Built

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Look:
    """One module of a file.

    Attributes:
        path: in the model; where that has no such module, or none is known, as the file spells it.
        algorithm: "LoRA", "LoKr", "full difference", ...
        fits: whether the model has the module, in this size.
        parameters: numbers in its tensors.
        measure: None where the update depends on the base's weight, or makes none.
        bias: the norm of what is added to the bias; None where there is nothing.
        bad: its tensors that hold NaN or infinity.
        broken: why its tensors make no update; empty where they do.
        dead: why it changes nothing; empty where it does.
    """

    component: str
    path: str
    algorithm: str
    fits: bool
    parameters: int
    measure: Measure | None = None
    bias: float | None = None
    bad: tuple[BadTensor, ...] = ()
    broken: str = ""
    dead: str = ""

    @property
    def name(self) -> str:
        return f"{self.component} {self.path}"

    @property
    def block(self) -> Block:
        return block_of(self.path)


Weights = Callable[[str, str], "Tensor"]
"""Reads a weight of the base, by component and path, in float32."""


def look_at(source: Source, group: Group, modules: Modules, weights: Weights | None = None) -> Look:
    """Read the tensors of one group, and measure the update that they make.

    Args:
        weights: of the base; asked for updates that depend on them.

    Raises:
        AdapterFileError: they cannot be read from the disk.
    """
    named = source.component or owner(group.spelled) or ""
    component, path = group.target or (named, group.spelled)
    algorithm = " + ".join(sorted(group.algorithms - {""})) or "LoRA"
    fits = group.target is not None
    count = sum(source.header.tensors[key].size for role, key in group.keys.items() if role != "alpha")
    try:
        tensors = read_numbers(source, group.keys.values())
    except AdapterFileError as error:
        return Look(component, path, algorithm, fits, count, broken=_reason(error, source))
    if bad := bad_tensors(tensors, f"{component} {path}"):
        return Look(component, path, algorithm, fits, count, bad=bad)
    if group.unsupported:
        return Look(component, path, algorithm, fits, count, broken=f"{group.unsupported} is not read")
    shape = weight_shape(modules[component], path) if fits else None
    try:
        built = group.build(source.path, tensors, source.metadata, shape)
    except AdapterFileError as error:
        return Look(component, path, algorithm, fits, count, broken=_reason(error, source, group.spelled))
    low_rank, other = built.low_rank, built.dense
    right = fits and fit(built, shape) is not None
    weight = None if weights is None or not right else partial(weights, component, path)
    measured = measure(low_rank, other, weight)
    return Look(
        component,
        path,
        _algorithm(built, group),
        right,
        count,
        measured,
        None if other is None or other.bias is None else float(other.bias.double().norm()),
        dead=cause_of_death(low_rank, other, measured),
    )


def _reason(error: AdapterFileError, source: Source, spelled: str = "") -> str:
    """What is wrong, without the names that stand beside it anyway."""
    return (error.reason or str(error)).removeprefix(f"{spelled}: ").rstrip(".")


def _algorithm(built: Built, group: Group) -> str:
    if built.low_rank is None:
        return built.dense.algorithm if built.dense is not None else "LoRA"
    return "LoHa" if "LoHa" in group.algorithms else "LoRA"
