"""What a manifest says, item by item, before anything in it is multiplied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from lorastyle.errors import shortened

from .keys import is_key, over, unknown
from .places import Find, Misplaced

MATRIX, ZIP, EXCLUDE = "matrix", "zip", "exclude"
_GROUPS = (MATRIX, ZIP, EXCLUDE)

Values = Mapping[str, object]


@dataclass(frozen=True)
class Entry:
    """One item as written.

    Attributes:
        values: by key, with the manifest's defaults under them.
        matrix: {key: its values}; every combination is drawn.
        zips: groups of {key: its values}, all equally long; the first of each go together, then the second.
        exclude: combinations that are left out, each by some of its values.
        find: where in the manifest something stands.
    """

    values: Values
    find: Find
    matrix: Values = field(default_factory=dict[str, object])
    zips: tuple[Values, ...] = ()
    exclude: tuple[Values, ...] = ()


def make_entry(item: object, find: Find, *, defaults: Values, around: Entry | None = None) -> Entry:
    """An entry from an item as written.

    Args:
        item: what stands in the manifest for it.
        find: the place of something in the item.
        defaults: what it does not say itself.
        around: an entry whose matrix, zips and exclusions count for this item too.

    Raises:
        Misplaced: it is no table, or has a key or a group that is none.
    """
    table = _table(item, find, (), "an item")
    groups = {key: table.pop(key) for key in _GROUPS if key in table}
    for key in table:
        _check_key(key, find, (key,))
    matrix = _axes(groups.get(MATRIX), find, (MATRIX,))
    zips = [
        _axes(group, find, (ZIP, i) if isinstance(groups.get(ZIP), list) else (ZIP,))
        for i, group in enumerate(_list(groups.get(ZIP)))
    ]
    exclude = [
        _axes(rule, find, (EXCLUDE, i) if isinstance(groups.get(EXCLUDE), list) else (EXCLUDE,))
        for i, rule in enumerate(_list(groups.get(EXCLUDE)))
    ]
    if around is not None:
        matrix = {**around.matrix, **matrix}
        zips, exclude = [*around.zips, *zips], [*around.exclude, *exclude]
    varied = [*matrix, *(key for group in zips for key in group)]
    for key in varied:
        if key in table or varied.count(key) > 1:
            place = find((key,) if key in table else (ZIP if key not in matrix else MATRIX,))
            raise Misplaced(place, f"{key} is given twice: by the item and by matrix or zip. Keep one.")
    values = over(defaults, table)
    return Entry(values, find, matrix, tuple(zips), tuple(exclude))


def make_defaults(value: object, find: Find) -> dict[str, object]:
    """The values of `defaults`. Raises Misplaced."""
    table = _table(value, find, (), "defaults")
    for key in table:
        _check_key(key, find, (key,))
    return table


def _axes(value: object, find: Find, path: tuple[str | int, ...]) -> dict[str, object]:
    table = _table({} if value is None else value, find, path, str(path[0]))
    for key in table:
        _check_key(key, find, (*path, key))
    return table


def _table(value: object, find: Find, path: tuple[str | int, ...], what: str) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise Misplaced(find(path), f"{what} is {shortened(value)}; a table of keys and values is needed.")
    return dict(cast("Mapping[str, object]", value))


def _list(value: object) -> Sequence[object]:
    return () if value is None else cast("list[object]", value) if isinstance(value, list) else (value,)


def _check_key(key: str, find: Find, path: tuple[str | int, ...]) -> None:
    if not is_key(key):
        raise Misplaced(find(path), unknown(key))
