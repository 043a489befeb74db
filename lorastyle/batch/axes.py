"""One entry multiplied: matrix (product), zip (side by side), ranges in its values, less what is excluded."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from lorastyle.errors import ConfigError

from .entries import EXCLUDE, MATRIX, ZIP, Entry
from .keys import ONE_ADAPTER, adapter_list, adapter_name, over, scale_of, takes_ranges
from .places import Misplaced
from .ranges import MOST, adapter_range, is_range, range_values

Values = Mapping[str, object]
Rules = Sequence[Mapping[str, Sequence[object]]]


@dataclass(frozen=True)
class Axis:
    """Values that go together: `rows` of one value for each of `keys`."""

    keys: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


def combinations(entry: Entry, most: int) -> Iterator[dict[str, object]]:
    """The entry's items, the first axis turning slowest.

    Raises:
        Misplaced: an axis that has no values, lists in a zip of different lengths, or more than `most` items.
    """
    values, axes = _axes(entry)
    rules = _rules(entry)
    count = math.prod(len(axis.rows) for axis in axes)
    if count > most:
        raise Misplaced(entry.find(()), f"this makes {count:,} pictures; at most {most:,} are allowed.")
    for rows in itertools.product(*(axis.rows for axis in axes)):
        chosen = {
            key: value
            for axis, row in zip(axes, rows, strict=True)
            for key, value in zip(axis.keys, row, strict=True)
        }
        item = over(values, chosen)
        if not any(_matches(item, rule) for rule in rules):
            yield item


def _axes(entry: Entry) -> tuple[Values, list[Axis]]:
    axes = [
        Axis((key,), tuple((v,) for v in _spread(entry, (MATRIX, key), key, value)))
        for key, value in entry.matrix.items()
    ]
    for group in entry.zips:
        lists = {key: _spread(entry, (ZIP, key), key, value) for key, value in group.items()}
        lengths = {key: len(found) for key, found in lists.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise Misplaced(entry.find((ZIP,)), f"the lists of a zip must be equally long: {told}.")
        axes.append(Axis(tuple(lists), tuple(zip(*lists.values(), strict=True))))
    taken = {key for axis in axes for key in axis.keys}
    values = dict(entry.values)
    scales: dict[str, object] = {}
    if "adapters" in values and "adapters" not in taken:
        try:
            values["adapters"], scales = _without_ranges(adapter_list(values["adapters"] or ()))
        except ConfigError as error:
            raise Misplaced(entry.find(("adapters",)), str(error)) from error
    for key, value in {**values, **scales}.items():
        if key not in taken and takes_ranges(key) and is_range(value):
            path = ("adapters",) if key in scales else (key,)
            axes.append(Axis((key,), tuple((v,) for v in _spread(entry, path, key, value))))
            values.pop(key, None)
    return values, axes


def _without_ranges(uses: list[object]) -> tuple[list[object], dict[str, object]]:
    """The adapters, and {adapters.NAME: range} of those whose scale is one."""
    ranges: dict[str, object] = {}
    kept: list[object] = []
    for use in uses:
        found = adapter_range(use) if isinstance(use, str) else None
        if isinstance(use, Mapping):
            table = cast("Mapping[str, object]", use)
            name, scale = adapter_name(table), table.get("scale")
            found = (name, str(scale)) if name is not None and is_range(scale) else None
        kept.append(use if found is None else {"name": found[0]})
        if found is not None:
            ranges[ONE_ADAPTER + found[0]] = found[1]
    return kept, ranges


def _spread(entry: Entry, path: tuple[str, ...], key: str, value: object) -> list[object]:
    """The values of an axis: of a list, of a range, of ranges in a list, or the one value."""
    result: list[object] = []
    for one in cast("list[object]", value) if isinstance(value, list) else [value]:
        try:
            result += range_values(cast(str, one)) if takes_ranges(key) and is_range(one) else [one]
        except ConfigError as error:
            raise Misplaced(entry.find(path), f"{key}: {error}") from error
    if not result or len(result) > MOST:
        raise Misplaced(entry.find(path), f"{key} has {len(result):,} values; 1 to {MOST:,} are needed.")
    return result


def _rules(entry: Entry) -> Rules:
    rules = [
        {key: _spread(entry, (EXCLUDE, key), key, value) for key, value in rule.items()}
        for rule in entry.exclude
    ]
    if not all(rules):
        raise Misplaced(entry.find((EXCLUDE,)), "a rule of exclude is empty; it would leave out everything.")
    return rules


def _matches(item: Values, rule: Mapping[str, Sequence[object]]) -> bool:
    return all(any(_same(_look_up(item, key), value) for value in values) for key, values in rule.items())


def _look_up(item: Values, key: str) -> object:
    return scale_of(item, key.removeprefix(ONE_ADAPTER)) if key.startswith(ONE_ADAPTER) else item.get(key)


def _same(value: object, other: object) -> bool:
    return value == other and isinstance(value, bool) == isinstance(other, bool)
