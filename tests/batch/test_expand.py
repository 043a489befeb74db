"""Products, pairs, ranges and exclusions; ids and seeds that stay when other items come and go."""

from __future__ import annotations

import pytest

from lorastyle.batch import Expansion
from lorastyle.batch.ranges import adapter_range, is_range, range_values
from lorastyle.errors import ConfigError

from .conftest import Expand, told


def seen(expansion: Expansion, *keys: str) -> list[tuple[object, ...]]:
    assert told(expansion) == []
    return [tuple(getattr(item.request, key) for key in keys) for item in expansion.items]


def scales(expansion: Expansion) -> list[dict[str, float]]:
    return [{use.name: use.scale for use in item.request.adapters} for item in expansion.items]


def test_a_matrix_is_a_product_and_its_first_key_turns_slowest(expanded: Expand) -> None:
    found = expanded("matrix:\n  prompt: [a, b]\n  seed: 1:2\n  steps: [5]\n")
    assert seen(found, "prompt", "seed", "steps") == [("a", 1, 5), ("a", 2, 5), ("b", 1, 5), ("b", 2, 5)]
    assert [item.index for item in found.items] == [1, 2, 3, 4]


def test_a_zip_goes_side_by_side_and_groups_multiply(expanded: Expand) -> None:
    text = "matrix: {guidance: [1, 2]}\nzip:\n  - {prompt: [a, b], seed: 1:2}\n  - {size: [64, 32x16]}\n"
    found = expanded(text)
    assert seen(found, "guidance", "prompt", "seed", "width", "height") == [
        (g, prompt, seed, *size)
        for g in (1.0, 2.0)
        for prompt, seed in (("a", 1), ("b", 2))
        for size in ((64, 64), (32, 16))
    ]


def test_exclude_takes_out_what_all_of_a_rule_matches(expanded: Expand) -> None:
    text = (
        "matrix: {prompt: [a, b], seed: 1:3, adapters.cat: [0, 0.5]}\n"
        "exclude:\n  - {prompt: a, seed: [1, 3]}\n  - {seed: 2:3, adapters.cat: 0.5}\n  - {seed: true}\n"
    )
    kept = [(i.request.prompt, i.request.seed, i.request.adapters[0].scale) for i in expanded(text).items]
    assert kept == [("a", 2, 0), ("b", 1, 0), ("b", 1, 0.5), ("b", 2, 0), ("b", 3, 0)]


@pytest.mark.parametrize("kind", ["list", "table", "text", "csv"])
def test_ranges_of_scales(expanded: Expand, kind: str) -> None:
    text = {
        "list": 'items: [{prompt: a, adapters: ["cat:0:1:0.25", "ink:2"]}]',
        "table": "items: [{prompt: a, adapters: {cat: 0:1:0.25, ink: 2}}]",
        "text": "items: [{prompt: a, adapters: 'cat:0:1:0.25, ink:2'}]",
        "csv": 'prompt,adapters\na,"cat:0:1:0.25,ink:2"\n',
    }[kind]
    found = expanded(text, "csv" if kind == "csv" else "yaml")
    assert scales(found) == [{"cat": s, "ink": 2.0} for s in (0, 0.25, 0.5, 0.75, 1.0)]


def test_a_scale_by_its_name_changes_that_one_alone(expanded: Expand) -> None:
    text = "defaults: {prompt: a, adapters: {cat: 0.8, ink: 1}}\nitems:\n  - {}\n  - {adapters.cat: 0.1}\n"
    text += "  - {adapters.new: 2}\n  - {adapters: {}}\n"
    assert scales(expanded(text)) == [
        {"cat": 0.8, "ink": 1},
        {"cat": 0.1, "ink": 1},
        {"cat": 0.8, "ink": 1, "new": 2},
        {},
    ]


def test_items_win_over_defaults_and_a_matrix_over_both(expanded: Expand) -> None:
    text = "defaults: {prompt: a, size: 64, steps: 5, seed: 1}\nmatrix: {steps: [7, 8]}\n"
    text += "items:\n  - {width: 32, height: 48}\n  - {seed: 2, prompt: null}\n"
    found = expanded(text)
    assert [(i.request.width, i.request.height, i.request.steps) for i in found.items] == [
        (32, 48, 7),
        (32, 48, 8),
    ]
    assert "prompt is missing" in told(found)[0] and len(told(found)) == 1


def test_an_item_of_its_own_matrix(expanded: Expand) -> None:
    text = '{"prompt": "a", "seed": 1}\n{"prompt": "b", "matrix": {"seed": "1:2"}, "exclude": {"seed": 1}}\n'
    assert seen(expanded(text, "jsonl"), "prompt", "seed") == [("a", 1), ("b", 2)]


def test_number_takes_the_seeds_that_follow(expanded: Expand) -> None:
    found = expanded('{"prompt": "a", "seed": 5, "number": 3}\n', "jsonl")
    assert seen(found, "seed", "number") == [(5, 1), (6, 1), (7, 1)]


def test_open_seeds_stay_when_other_items_come(expanded: Expand) -> None:
    one = '{"prompt": "a", "number": 2}\n{"prompt": "a"}\n{"prompt": "b"}\n'
    before, again = expanded(one, "jsonl"), expanded(one, "jsonl")
    assert [i.key for i in before.items] == [i.key for i in again.items]
    assert len({item.request.seed for item in before.items}) == 4
    more = expanded('{"prompt": "new"}\n' + one.replace('"number": 2', '"number": 4'), "jsonl")
    assert {i.key for i in before.items} < {i.key for i in more.items}


def test_the_same_picture_twice_is_one_item(expanded: Expand) -> None:
    text = '{"prompt": "a", "seed": 1, "guidance": 2}\n{"prompt": "a", "seed": 1, "guidance": 2.0}\n'
    found = expanded(text + '{"prompt": "a", "seed": 2, "guidance": 2}\n', "jsonl")
    assert [item.index for item in found.items] == [1, 3] and found.same == {2: 1}


def test_what_is_wrong_in_a_matrix_is_told_once(expanded: Expand) -> None:
    found = expanded("matrix:\n  prompt: [a, b]\n  steps: [0, 5]\n")
    assert [item.request.steps for item in found.items] == [5, 5]
    assert [item.index for item in found.items] == [2, 4]
    assert [line.split(";")[0] for line in told(found)] == ["line 3, column 3: steps is 0"]


def test_far_too_many_pictures(expanded: Expand) -> None:
    with pytest.raises(ConfigError, match="More than 200,000 pictures"):
        expanded("matrix: {seed: 1:1000}\nitems: [{prompt: a, number: 10000}]\n")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0:1:0.25", [0, 0.25, 0.5, 0.75, 1]),
        ("0:1:0.1", [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        ("1:4", [1, 2, 3, 4]),
        ("3:1", [3, 2, 1]),
        ("1:0:-0.5", [1, 0.5, 0]),
        ("0:1:0.4", [0, 0.4, 0.8]),
        ("-1:1", [-1, 0, 1]),
        ("2:2", [2]),
    ],
)
def test_ranges_hold_both_ends(text: str, values: list[float]) -> None:
    assert is_range(text) and range_values(text) == values
    assert all(isinstance(value, int) == float(value).is_integer() for value in range_values(text))


@pytest.mark.parametrize("text", ["1", "1:", ":2", "a:b", "1:2:3:4", "0x1:2", "1e3:2", "1:2 3"])
def test_what_is_no_range(text: str) -> None:
    assert not is_range(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cat:0:1", ("cat", "0:1")),
        ("C:\\cat.safetensors:0:1:0.5", ("C:\\cat.safetensors", "0:1:0.5")),
        ("cat:0.8", None),
        ("cat", None),
    ],
)
def test_the_range_of_an_adapter(text: str, found: tuple[str, str] | None) -> None:
    assert adapter_range(text) == found
