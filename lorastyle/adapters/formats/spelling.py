"""Which module of a model a name in a file means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from . import FORMATS

Spellings = Mapping[str, list[tuple[str, str]]]
"""{name in a file: the (component, module path)s of the model that a format spells so}"""


def spellings(modules: Mapping[str, Iterable[str]]) -> Spellings:
    """Every name that any format has for the modules of a model."""
    found: dict[str, list[tuple[str, str]]] = {}
    for component, paths in modules.items():
        for path in paths:
            for spelled in {name for fmt in FORMATS for name in fmt.spellings(component, path)}:
                found.setdefault(spelled, []).append((component, path))
    return found
