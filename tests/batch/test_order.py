"""Little is loaded twice, and shards divide the work evenly, without gaps or overlaps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest

from lorastyle.batch import Item, cost, order, parse_shard, shard
from lorastyle.errors import ConfigError
from lorastyle.generate import GenerateRequest

from .conftest import Expand

MIXED = """
matrix:
  seed: 1:2
  prompt: [a, b]
  base: [embedded, other]
  adapters: [{cat: 1}, {cat: 0.5}, {}, {ink: 1}]
  size: [64, 128]
"""


def switches(items: Sequence[Item], what: Callable[[GenerateRequest], object]) -> int:
    """How often something changes from one picture to the next."""
    values = [what(item.request) for item in items]
    return sum(a != b for a, b in itertools.pairwise(values))


def adapters(request: GenerateRequest) -> object:
    return request.base, frozenset(use.name for use in request.adapters)


def test_ordered_to_load_least(expanded: Expand) -> None:
    items = expanded(MIXED).items
    ordered = order(items)
    assert sorted(i.index for i in ordered) == [i.index for i in items] and len(items) == 64
    assert switches(items, lambda r: r.base) == 7  # as written
    assert switches(ordered, lambda r: r.base) == 1
    assert switches(ordered, adapters) == 2 * 3 - 1
    assert switches(ordered, lambda r: (adapters(r), r.adapters)) == 2 * 4 - 1
    assert switches(ordered, lambda r: (r.base, r.adapters, r.width)) == 2 * 4 * 2 - 1


def test_groups_stand_where_their_first_item_stands(expanded: Expand) -> None:
    items = order(expanded("items: [{prompt: b, base: z}, {prompt: a, base: y}, {prompt: c, base: z}]").items)
    assert [item.request.prompt for item in items] == ["b", "c", "a"]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 100])
def test_shards_are_a_partition_of_neighbours(expanded: Expand, count: int) -> None:
    ordered = order(expanded(MIXED).items)
    parts = [shard(ordered, i, count) for i in range(1, count + 1)]
    assert [item for part in parts for item in part] == ordered
    costs = [sum(cost(item.request) for item in part) for part in parts]
    largest = max(cost(item.request) for item in ordered)
    assert max(costs) - min(costs) <= 2 * largest
    assert sum(switches(part, lambda r: r.base) for part in parts) <= 1


def test_shards_weigh_what_pictures_cost(expanded: Expand) -> None:
    small = ", ".join(f"{{prompt: {name}, steps: 30}}" for name in "abc")
    text = f"items: [{{prompt: big, steps: 90, size: 512}}, {small}]"
    ordered = order(expanded(text).items)
    assert sorted([len(shard(ordered, 1, 2)), len(shard(ordered, 2, 2))]) == [1, 3]


@pytest.mark.parametrize(
    ("cheap", "dear"),
    [
        ({"steps": 10}, {"steps": 11}),
        ({"width": 64}, {}),
        ({"guidance": 1}, {"guidance": 2}),
        ({}, {"hires": 2}),
        ({"init": "x.png", "strength": 0.5}, {}),
    ],
)
def test_what_pictures_cost(cheap: dict[str, object], dear: dict[str, object]) -> None:
    requests = [GenerateRequest.from_dict({"prompt": "a", **values}) for values in (cheap, dear)]
    assert cost(requests[0]) < cost(requests[1])


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3", "1.5/2"])
def test_shards_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="write which of how many, such as 1/4"):
        parse_shard(text)


def test_a_shard() -> None:
    assert parse_shard(" 2/4 ") == (2, 4)
