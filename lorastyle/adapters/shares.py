"""What blocks and components have of an adapter: the measures of their modules, added up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .blocks import common_name
from .formats import COMPONENTS
from .look import Look
from .measure import Measure


@dataclass(frozen=True)
class Share:
    """Some modules together.

    Attributes:
        name: of the block or the component.
        alias: of the block, in A1111's LoRA Block Weight.
        modules: how many.
        norm: of all their updates (Frobenius), the root of the sum of squares; None where none is measured.
        share: of the whole adapter's squared norm, 0 to 1; None likewise.
        rank: the most that any of them has.
        effective_rank, energy_rank: the median module's, see `Measure`; None where none has such.
        effective_rank_most, energy_rank_most: the largest.
    """

    name: str
    alias: str
    modules: int
    norm: float | None
    share: float | None
    rank: int | None
    effective_rank: float | None
    effective_rank_most: float | None
    energy_rank: float | None
    energy_rank_most: int | None


def by_component(looks: Sequence[Look]) -> tuple[Share, ...]:
    """One for each component that is there."""
    whole = _energy(looks)
    return tuple(
        _share(component, "", [look for look in looks if look.component == component], whole)
        for component in _present(looks)
    )


def by_block(looks: Sequence[Look], *, aliases: bool) -> Mapping[str, tuple[Share, ...]]:
    """{component: its blocks, as the base runs them}.

    Args:
        aliases: whether the base is built as those for which they were made.
    """
    whole = _energy(looks)
    found: dict[str, tuple[Share, ...]] = {}
    for component in _present(looks):
        blocks: dict[tuple[int, str, int, int], list[Look]] = {}
        for look in looks:
            if look.component == component:
                blocks.setdefault(look.block.order, []).append(look)
        found[component] = tuple(
            _share(
                common_name({look.block.name for look in blocks[order]}),
                blocks[order][0].block.alias if aliases and component == "unet" else "",
                blocks[order],
                whole,
            )
            for order in sorted(blocks)
        )
    return found


def _present(looks: Iterable[Look]) -> list[str]:
    there = {look.component for look in looks}
    return [component for component in COMPONENTS if component in there]


def _energy(looks: Iterable[Look]) -> float:
    return math.fsum(look.measure.norm**2 for look in looks if look.measure is not None)


def _share(name: str, alias: str, looks: Sequence[Look], whole: float) -> Share:
    energy = _energy(looks)
    measures = [look.measure for look in looks if look.measure is not None]
    effective = [m.effective_rank for m in measures if m.effective_rank is not None]
    enough = [m.energy_rank for m in measures if m.energy_rank is not None]
    return Share(
        name=name,
        alias=alias,
        modules=len(looks),
        norm=math.sqrt(energy) if measures else None,
        share=(energy / whole if whole else 0.0) if measures else None,
        rank=_largest_rank(measures),
        effective_rank=median(effective) if effective else None,
        effective_rank_most=max(effective, default=None),
        energy_rank=median(enough) if enough else None,
        energy_rank_most=max(enough, default=None),
    )


def _largest_rank(measures: Iterable[Measure]) -> int | None:
    return max((m.rank for m in measures if m.rank is not None), default=None)
