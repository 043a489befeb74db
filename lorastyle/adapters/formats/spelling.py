"""Which module of a model a name in a file means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from .naming import flat_names, split_prefix

_IN_PROJECTION = re.compile(r"(.*resblocks[._]\d+[._]attn[._])in_proj(?:_weight)?")
Place = tuple[str, str]
"""(component, module path) of a model."""


class Spellings:
    """Every name that files have for the modules of a model."""

    def __init__(self, modules: Iterable[tuple[str, Iterable[str]]]) -> None:
        self._found: dict[tuple[str, str], list[str]] = {}
        for component, paths in modules:
            for path in paths:
                for name in flat_names(component, path):
                    self._found.setdefault((component, name), []).append(path)

    def places(self, spelled: str) -> list[Place]:
        """What a spelled module may mean: one place, none, or more where its name does not tell."""
        components, body = split_prefix(spelled)
        hits = self._lookup(components, body.replace(".", "_"))
        if len(hits) > 1 and "." in body:  # dots that flattening loses tell them apart
            exact = [place for place in hits if place[1] == body]
            return exact or hits
        return hits

    def thirds(self, spelled: str) -> list[Place]:
        """The queries, keys and values that OpenCLIP's `attn.in_proj` holds in one; none for other names."""
        found = _IN_PROJECTION.fullmatch(spelled) if "in_proj" in spelled else None
        places = self.places(f"{found[1]}out_proj") if found else []
        if len(places) != 1:
            return []
        component, path = places[0]
        return [(component, f"{path.removesuffix('out_proj')}{part}_proj") for part in "qkv"]

    def _lookup(self, components: Iterable[str], flat: str) -> list[Place]:
        return [
            (component, path) for component in components for path in self._found.get((component, flat), ())
        ]


def spellings(modules: Mapping[str, Iterable[str]]) -> Spellings:
    """The spellings of a model's modules; kept for its next file."""
    return _spellings(tuple((component, tuple(paths)) for component, paths in modules.items()))


@lru_cache(maxsize=8)
def _spellings(modules: tuple[tuple[str, tuple[str, ...]], ...]) -> Spellings:
    return Spellings(modules)
