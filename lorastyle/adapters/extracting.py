"""Differences of weights into an adapter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from .adapter import Adapter
from .cutting import Cutter, Limit, RankCut, cut_error
from .decompose import dense_spectrum
from .origin import EXTRACTED_FROM


@dataclass(frozen=True)
class Extracted:
    """An adapter made of differences, and what its ranks leave out of each module."""

    adapter: Adapter
    modules: tuple[RankCut, ...]

    @property
    def error(self) -> float:
        """Of all modules together: the norm of what the ranks leave out over that of the whole."""
        return cut_error(self.modules)


def extract(
    differences: Iterable[tuple[str, str, Tensor]],
    limit: Limit,
    *,
    name: str,
    shapes: Sequence[tuple[int, ...]],
    told: Mapping[str, str],
    metadata: Mapping[str, str],
    on_module: Callable[[int, int], None] | None = None,
) -> Extracted:
    """The nearest low-rank update of each difference. One is in memory at a time.

    Args:
        differences: (component, module path, what is added to its weight), float32.
        shapes: of all differences that may come.
        told: which models; recorded under `EXTRACTED_FROM`.
        metadata: of the adapter, besides.
    """
    cutter, parts = Cutter(limit), limit.parts(shapes)
    for done, (component, path, difference) in enumerate(differences, 1):
        matrix = difference.flatten(1)
        spectrum = dense_spectrum(matrix, tuple(difference.shape), first=parts)
        cutter.cut((component, path), spectrum, before=min(matrix.shape))
        if on_module is not None:
            on_module(done, len(shapes))
    components, rows = cutter.finish()
    record = json.dumps({**told, "relative_error": round(cut_error(rows), 6)}, ensure_ascii=False)
    return Extracted(Adapter(name, components, {**metadata, EXTRACTED_FROM: record}), rows)
