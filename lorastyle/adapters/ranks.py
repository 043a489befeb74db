"""How many ranks each module keeps when an adapter is made smaller."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import TypeVar

from lorastyle.errors import AdapterError

from .lowrank import Spectrum

Place = TypeVar("Place")


def uniform(spectra: Mapping[Place, Spectrum], rank: int) -> dict[Place, int]:
    """`rank` for all that have as many.

    Raises:
        AdapterError: rank is below 1.
    """
    if rank < 1:
        raise AdapterError(f"rank is {rank}; it must be at least 1.")
    return {place: min(rank, len(spectrum.values)) for place, spectrum in spectra.items()}


def by_energy(spectra: Mapping[Place, Spectrum], energy: float) -> dict[Place, int]:
    """For each module the fewest that hold this share of its squared singular values: 0.95 leaves a relative
    error of sqrt(0.05) = 22 % in the Frobenius norm, 0.999 one of 3 %.

    Raises:
        AdapterError: the share is not above 0 and at most 1.
    """
    if not 0 < energy <= 1:
        raise AdapterError(f"energy is {energy}; it must be above 0 and at most 1, such as 0.99.")
    kept: dict[Place, int] = {}
    for place, spectrum in spectra.items():
        total = spectrum.energy
        enough = (spectrum.values.square().cumsum(0) >= energy * total * (1 - 1e-12)).nonzero()
        fewest = int(enough[0]) + 1 if len(enough) else len(spectrum.values)
        kept[place] = fewest if total else 1
    return kept


def by_numbers(spectra: Mapping[Place, Spectrum], most: int) -> dict[Place, int]:
    """Ranks of at most so many numbers in all, with the least error of the whole adapter that these allow.

    Each module keeps one. The rest goes where a number removes most of the squared error: to the largest
    squared singular value over out + in, one after another. Within a module these fall, so it is optimal but
    for what no longer fits at the end. Modules of an adapter thus get different ranks; readers agree about
    such files as long as alpha is the same (`with_constant_alpha`).

    Raises:
        AdapterError: rank 1 everywhere is more already; with how much it is.
    """
    price = {place: one.left.shape[0] + one.right.shape[1] for place, one in spectra.items()}
    left = most - sum(price.values())
    if left < 0:
        raise AdapterError(f"rank 1 everywhere has {sum(price.values()):,} numbers, more than {most:,}.")
    kept = dict.fromkeys(spectra, 1)
    gains = {place: one.values.square().tolist() for place, one in spectra.items()}
    queue = [
        (-gains[place][1] / price[place], i, place)
        for i, place in enumerate(spectra)
        if len(gains[place]) > 1
    ]
    heapq.heapify(queue)
    while queue:
        gain, i, place = heapq.heappop(queue)
        if gain == 0:  # nothing is left to keep
            break
        if price[place] > left:
            continue
        left -= price[place]
        kept[place] += 1
        if kept[place] < len(gains[place]):
            heapq.heappush(queue, (-gains[place][kept[place]] / price[place], i, place))
    return kept


def error_of(spectra: Sequence[tuple[Spectrum, int]]) -> float:
    """Of all modules together: the Frobenius norm of what is left out, over that of the whole."""
    lost = sum(spectrum.lost(rank) for spectrum, rank in spectra)
    whole = sum(spectrum.energy for spectrum, _ in spectra)
    return float((lost / whole) ** 0.5) if whole else 0.0
