"""Which module of a model a name in a file means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from . import FORMATS

Spellings = Mapping[str, list[tuple[str, str]]]
"""{name in a file: the (component, module path)s of the model that a format spells so}"""


def spellings(modules: Mapping[str, Iterable[str]]) -> Spellings:
    """Every name that any format has for the modules of a model; kept for its next file."""
    return _spellings(tuple((component, tuple(paths)) for component, paths in modules.items()))


@lru_cache(maxsize=8)
def _spellings(modules: tuple[tuple[str, tuple[str, ...]], ...]) -> Spellings:
    found: dict[str, list[tuple[str, str]]] = {}
    for component, paths in modules:
        for path in paths:
            for spelled in {name for fmt in FORMATS for name in fmt.spellings(component, path)}:
                found.setdefault(spelled, []).append((component, path))
    return found
