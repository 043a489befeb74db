"""A manifest multiplied into single pictures.

Pure: the same text, base and template make the same items, with nothing looked up, so that shards on several
machines agree.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

from lorastyle.errors import ConfigError
from lorastyle.generate import GenerateRequest, with_tags_read

from .axes import combinations
from .entries import Entry
from .keys import to_fields
from .manifest import Manifest
from .names import Names, Template
from .places import Misplaced, Place, Problem

MOST_ITEMS = 200_000
_NAMED_KEY = re.compile(r"unknown key '(.+?)'|(\w+)")


@dataclass(frozen=True)
class Item:
    """One picture to draw.

    Attributes:
        index: its place in the expansion, from 1.
        request: number 1, with a seed and a base; paths as written.
        key: hex digits that differ where the request does.
        name: its file below the folder of the batch; no two items have the same.
        place: where the manifest says so.
    """

    index: int
    request: GenerateRequest
    key: str
    name: str
    place: Place


@dataclass(frozen=True)
class Expansion:
    """All pictures of a manifest.

    Attributes:
        items: in the order of the manifest.
        problems: what cannot be drawn, each told once.
        same: {index of an item that asks for the very same picture as an earlier one: that one's index}.
    """

    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    same: Mapping[int, int]


def expand(manifest: Manifest, *, base: str, template: str | None = None) -> Expansion:
    """Multiply a manifest.

    A seed that is left open is made from the request itself and from how many equal ones came before, so it
    stays when other items are added; `number` takes the seeds that follow it.

    Args:
        manifest: see `read_manifest`.
        base: for items that name none.
        template: for the names of the files; see `Template`.

    Raises:
        ConfigError: the template cannot be used, or far too many items.
    """
    names = Names(Template(template) if template is not None else Template())
    problems: dict[Problem, None] = dict.fromkeys(manifest.problems)
    wanted: list[tuple[Entry, object, GenerateRequest | None]] = []
    count = 0
    for entry in manifest.entries:
        try:
            for values in combinations(entry, MOST_ITEMS - count):
                asked = _request(entry, values, base, names)
                good = isinstance(asked, GenerateRequest)
                problems.update(dict.fromkeys(() if good else asked))
                wanted.append((entry, values.get("name"), asked if good else None))
                count += asked.number if good else 1
                if count > MOST_ITEMS:  # before any of them takes its time
                    raise ConfigError(f"More than {MOST_ITEMS:,} pictures. Split the manifest.")
        except Misplaced as error:
            problems[error.problem] = None
    items: list[Item] = []
    first: dict[str, int] = {}
    same: dict[int, int] = {}
    open_seeds: Counter[str] = Counter()
    index = 0
    for entry, named, asked in wanted:
        if asked is None:
            index += 1
            continue
        for request in _single(asked, open_seeds):
            index += 1
            key = digest(request.to_dict())
            if key in first:
                same[index] = first[key]
                continue
            first[key] = index
            name = names.take(named, index, request, key)
            items.append(Item(index, request, key, name, entry.find(())))
    return Expansion(tuple(items), tuple(sorted(problems, key=lambda problem: problem.place)), same)


def digest(values: object) -> str:
    """16 hex digits for plain values; 1 and 1.0 are the same."""
    text = json.dumps(_plain(values), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _request(
    entry: Entry, values: dict[str, object], base: str, names: Names
) -> GenerateRequest | list[Problem]:
    try:
        names.template(values.get("name"))
        return with_tags_read(GenerateRequest.from_dict({"base": base, **to_fields(values)}))
    except ConfigError as error:
        return [Problem(_place_of(entry, values, text), text) for text in error.problems]


def _place_of(entry: Entry, values: Mapping[str, object], problem: str) -> Place:
    """The place of the key that a sentence begins with."""
    found = _NAMED_KEY.match(problem)
    key = (found[1] or found[2]) if found else ""
    shown = {"width": "size", "height": "size", "negative_prompt": "negative"}.get(key, key)
    key = key if key in values else shown
    for group in ("matrix", "zip"):
        if key in (entry.matrix if group == "matrix" else {k for axes in entry.zips for k in axes}):
            return entry.find((group, key))
    return entry.find((key,))


def _single(request: GenerateRequest, open_seeds: Counter[str]) -> Iterator[GenerateRequest]:
    """A request for each of its pictures."""
    seed = request.seed
    if seed is None:
        key = digest({**request.to_dict(), "number": 1})
        seed = int(digest([key, open_seeds[key]])[:8], 16)
        open_seeds[key] += 1
    if request.number == 1 and request.seed is not None:
        yield request
        return
    for i in range(request.number):
        yield replace(request, seed=seed + i, number=1)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in cast("dict[str, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in cast("list[object]", value)]
    return int(value) if isinstance(value, float) and value.is_integer() else value
