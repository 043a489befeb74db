"""JSONL, CSV and YAML say the same; what is wrong is told with its line and column, and the rest goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorastyle.batch import read_manifest
from lorastyle.errors import ConfigError

from .conftest import Expand, prompts, told

YAML = """
defaults:
  steps: 5
items:
  - {prompt: a cat, seed: 1, adapters: {cat: 0.8, ink: -1}}
  - prompt: "a dog, with a \\"hat\\""
    seed: 2
    size: 64x32
"""
JSONL = """{"defaults": {"steps": 5}}
{"prompt": "a cat", "seed": 1, "adapters": {"cat": 0.8, "ink": -1}}

# a line that says nothing
{"prompt": "a dog, with a \\"hat\\"", "seed": 2, "size": "64x32"}
"""
CSV = '''prompt,seed,steps,size,adapters
a cat,1,5,,"cat:0.8, ink:-1"
"a dog, with a ""hat""",2,5,64x32,
'''


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("yaml", YAML),
        ("yaml", "\ufeff" + YAML.replace("\n", "\r\n")),
        ("jsonl", JSONL),
        ("jsonl", "\ufeff" + JSONL.replace("\n", "\r\n")),
        ("csv", CSV),
        ("csv", "\ufeff" + CSV.replace("\n", "\r\n")),
        ("csv", "sep=;\n" + CSV.replace('"cat:0.8, ink:-1"', "cat:0.8|ink:-1").replace(",1,5,,", ";1;5;;")
            .replace("prompt,seed,steps,size,adapters", "prompt;seed;steps;size;adapters")
            .replace(',2,5,64x32,', ";2;5;64x32;")),
        ("tsv", 'prompt\tseed\tsteps\tsize\tadapters\na cat\t1\t5\t\tcat:0.8 | ink:-1\n'
                '"a dog, with a ""hat"""\t2\t5\t64x32\t\n'),
        ("json", '[{"prompt": "a cat", "seed": 1, "steps": 5, "adapters": ["cat:0.8", "ink:-1"]},'
                 '{"prompt": "a dog, with a \\"hat\\"", "seed": 2, "steps": 5, "width": 64, "height": 32}]'),
    ],
)  # fmt: skip
def test_every_kind_of_manifest_says_the_same(expanded: Expand, kind: str, text: str) -> None:
    found = expanded(text, kind)
    assert told(found) == []
    cat, dog = (item.request for item in found.items)
    assert (cat.prompt, cat.seed, cat.steps, cat.width) == ("a cat", 1, 5, None)
    assert [(use.name, use.scale) for use in cat.adapters] == [("cat", 0.8), ("ink", -1)]
    assert (dog.prompt, dog.seed, dog.width, dog.height) == ('a dog, with a "hat"', 2, 64, 32)
    assert [item.name for item in found.items] == ["00001-1-a-cat.png", "00002-2-a-dog-with-a-hat.png"]


def test_utf_16_of_a_spreadsheet(expanded: Expand) -> None:
    found = expanded("prompt\tseed\nein Bär\t1\n".encode("utf-16"), "csv")
    assert prompts(found) == ["ein Bär"]


@pytest.mark.parametrize(("cell", "guidance"), [("7,5", 7.5), ("7.5", 7.5), ("7", 7.0)])
def test_a_decimal_comma_between_semicolons(expanded: Expand, cell: str, guidance: float) -> None:
    assert expanded(f"prompt;guidance\na, b;{cell}\n", "csv").items[0].request.guidance == guidance


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"prompt": "a"', "line 2, column 15: this is no JSON"),
        ('{"prompt": "a"},', "line 2, column 16: this is no JSON: each line stands alone. Take away the"),
        ('{"prompt": "a",}', "this is no JSON: nothing follows the last comma. Take it away"),
        ('{"prompt": "a" "seed": 1}', "line 2, column 16: this is no JSON: Expecting ',' delimiter"),
        ('  {"prompt": "a", "steps": 0}', "line 2, column 19: steps is 0; a whole number from 1"),
        ('{"prompt": "a", "stpes": 3}', "line 2, column 17: unknown key 'stpes'. Did you mean \"steps\"?"),
        ('{"prompt": "a", "width": 1000000}', "line 2, column 17: width is 1000000; a multiple of 8"),
        ('{"prompt": "a", "size": "9999999x8"}', "line 2, column 17: size is '9999999x8'; WIDTHxHEIGHT"),
        ('{"prompt": "a", "size": "99999x64"}', "line 2, column 17: width is 99999"),
        ('{"prompt": "a", "size": 64, "width": 64}', "size and width are both given"),
        ('{"prompt": "a", "negative": "b", "negative_prompt": "c"}', "both given"),
        ('{"prompt": "a", "name": "../x"}', "line 2, column 17: name: '../x' leads out of the folder"),
        ('{"prompt": "a", "name": "{prompt.__class__}"}', "has the field 'prompt.__class__'; there are"),
        ('{"prompt": "a", "seed": 1, "seed": 2}', "line 2, column 28: the key 'seed' is there twice"),
        ('{"prompt": "a", "guidance": NaN}', "line 2, column 29: NaN is no number"),
        ('{"prompt": "a", "seed": -1}', "line 2, column 17: seed is -1"),
        ('{"prompt": "a", "scheduler": "eular"}', 'Did you mean "euler"?'),
        ('{"prompt": "a", "adapters": {"cat": "much"}}', "line 2, column 17: adapters: the scale of 'cat'"),
        ('{"prompt": "a", "adapters": 3}', "line 2, column 17: adapters is 3; write {cat: 0.8"),
        ('{"prompt": "a", "matrix": {"seed": []}}', "line 2, column 17: seed has 0 values"),
        ('{"prompt": "a", "matrix": {"seed": "0:1:0"}}', "column 17: seed: the range 0:1:0 never ends"),
        ('{"prompt": "a", "seed": "1:2:-1"}', "line 2, column 17: seed: the range 1:2:-1 never ends"),
        ('{"prompt": "a", "seed": "0:99999999"}', "more than 100,000 values"),
        ('{"prompt": "a", "matrix": {"prompt": ["b"]}}', "line 2, column 2: prompt is given twice"),
        ('{"prompt": "a", "matrix": {"seed": "1:1000", "steps": "1:1000"}}', "makes 1,000,000 pictures"),
        ('{"prompt": "a", "zip": {"seed": [1, 2], "steps": [3]}}', "equally long: seed has 2, steps has 1"),
        ('{"prompt": "a", "exclude": [{}]}', "it would leave out everything"),
        ('{"steps": 3}', "line 2, column 1: prompt is missing"),
        ('{"prompt": ["a", "b"]}', "line 2, column 2: prompt is ['a', 'b']; text of at most"),
        ('"a cat"', "line 2, column 1: an item is 'a cat'; a table of keys and values is needed"),
        ("[" * 5000, "line 2, column 1: "),
        ('{"prompt": 1' + "0" * 5000 + "}", "line 2, column 1: this JSON is nested too deeply, or a number"),
        ('{"prompt": "\\ud800"}', "prompt is '\\ud800'; text of at most 10,000 letters in UTF-8"),
    ],
)  # fmt: skip
def test_a_bad_line_is_told_and_the_others_go_on(expanded: Expand, line: str, complaint: str) -> None:
    found = expanded(f'{{"prompt": "before"}}\n{line}\n{{"prompt": "after"}}\n', "jsonl")
    assert prompts(found) == ["before", "after"]
    assert len(told(found)) == 1 and complaint in told(found)[0]
    assert len(told(found)[0]) < 600


def test_bytes_that_are_no_utf_8_cost_their_line_alone(expanded: Expand) -> None:
    found = expanded('{"prompt": "der Мишка"}\n{"prompt": "b"}\n'.encode("cp1251"), "jsonl")
    assert prompts(found) == ["b"]
    assert told(found) == [
        'line 1, column 17: this is not UTF-8. Save the file as UTF-8; in Excel, as "CSV UTF-8".'
    ]
    found = expanded("prompt\nder Мишка\nb\n".encode("cp1251"), "csv")
    assert prompts(found) == ["b"] and "line 2, column 5: this is not UTF-8" in told(found)[0]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("a,b,3", "line 3, column 3: this row has 3 cells, the header names 2"),
        ("a,much", "line 3, column 2: steps is 'much'"),
        (",3", "line 3, column 1: prompt is missing"),
        ('"a"b,3', "line 3, column 1: this row cannot be read"),
    ],
)
def test_a_bad_row_is_told_and_the_others_go_on(expanded: Expand, row: str, complaint: str) -> None:
    found = expanded(
        f'prompt,steps\n"of two\nlines",1\n{row}\nafter,2\n'.replace("of two\nlines", "one"), "csv"
    )
    assert prompts(found) == ["one", "after"]
    assert len(told(found)) == 1 and complaint in told(found)[0]


def test_lines_are_counted_over_cells_of_several(expanded: Expand) -> None:
    found = expanded('prompt,steps\n"of two\nlines",1\na,0\n', "csv")
    assert prompts(found) == ["of two\nlines"] and told(found)[0].startswith("line 4, column 2: steps is 0")


def test_a_quotation_mark_that_is_not_closed(expanded: Expand) -> None:
    found = expanded('prompt,steps\na,1\n"b,2\nc,3\n', "csv")
    assert (
        prompts(found) == ["a"]
        and "line 3, column 1: this row cannot be read: a quotation mark" in told(found)[0]
    )


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        ("csv", "prompt,stpes\na,1\n", "line 1, column 2: unknown key 'stpes'. Did you mean \"steps\"?"),
        ("csv", "prompt,prompt\na,b\n", "line 1, column 2: the column 'prompt' is there twice"),
        ("csv", "prompt,,steps\na,b,1\n", "line 1, column 2: a column without a name"),
        ("csv", "", "nothing to draw is in it"),
        ("csv", "prompt\n", "nothing to draw is in it"),
        ("jsonl", "\n\n", "nothing to draw is in it"),
        ("yaml", "# nothing\n", "nothing to draw is in it"),
        ("yaml", "prompt: a cat\n", "column 1: unknown key 'prompt'. At the top stand defaults, items"),
        ("yaml", "items:\n  - a: b: c\n", "line 2, column 9: this is no YAML: a second colon"),
        ("yaml", "items:\n\t- a\n", "line 2, column 1: this is no YAML: found character that cannot start"),
        ("yaml", "items: [{prompt: a, prompt: b}]\n", "line 1, column 21: the key 'prompt' is there twice"),
        ("yaml", "items: [&a {prompt: a}, *a]\n", "line 1, column 9: anchors and aliases"),
        ("yaml", "items: [!!python/object/apply:os.system [x]]\n", "line 1, column 9: the tag "),
        ("yaml", "items: [a]\n---\nitems: [b]\n", "line 2, column 1: a second document"),
        ("yaml", "items: [[[[[[[[[[[[[[[[[[[[[[a]]]]]]]]]]]]]]]]]]]]]]\n", "nested more than 16 deep"),
        ("yaml", "[" * 200_000, "nested more than 16 deep"),
        ("yaml", "items: a cat\n", "line 1, column 1: items is 'a cat'; a list is needed"),
        ("yaml", "a cat\n", "this is 'a cat'; a list of items is needed"),
        ("yaml", "defaults: [1]\n", "line 1, column 1: defaults is [1]"),
        ("yaml", "defaults: {stpes: 1}\n", "line 1, column 12: unknown key 'stpes'"),
        ("yaml", "matrix: {stpes: 1}\n", "line 1, column 10: unknown key 'stpes'"),
        ("yaml", "? [a, b]\n: c\n", "line 1, column 3: a list or table cannot be a key"),
        ("yaml", "a: \x00\n", "this is no YAML"),
        ("yaml", "items:\n  - ein \udccc\udce8\udcf8\udcea\udce0\n", "line 2, column 9: this is not UTF-8"),
        ("toml", "x = 1\n", "a manifest ends in .jsonl"),
    ],
)  # fmt: skip
def test_what_concerns_the_whole_manifest(tmp_path: Path, kind: str, text: str, complaint: str) -> None:
    path = tmp_path / f"bad.{kind}"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as error:
        read_manifest(path)
    assert complaint in str(error.value) and str(path) in str(error.value)
    assert len(str(error.value)) < 600


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "cats.yaml").touch()
    with pytest.raises(ConfigError, match=r'no such manifest\. Did you mean "cats.yaml"'):
        read_manifest(tmp_path / "cat.yaml")
    with pytest.raises(ConfigError, match="it is a folder"):
        read_manifest(tmp_path)


def test_yaml_words_and_numbers_are_those_of_yaml_1_2(expanded: Expand) -> None:
    found = expanded(
        "items:\n  - {prompt: no, seed: 1:3}\n  - {prompt: '12', seed: 010, guidance: 1e0}\n  - on\n"
    )
    assert prompts(found) == ["no", "no", "no", "12", "on"]  # not False; and 1:3 is no number of base 60
    assert [item.request.seed for item in found.items][:4] == [1, 2, 3, 10]


def test_yaml_places_are_those_of_the_keys(expanded: Expand) -> None:
    found = expanded("items:\n  - prompt: a\n    steps: 0\n  - prompt: b\n    stpes: 1\n  - prompt: c\n")
    assert prompts(found) == ["c"]
    assert [line.split(";")[0].split(".")[0] for line in told(found)] == [
        "line 3, column 5: steps is 0",
        "line 5, column 5: unknown key 'stpes'",
    ]
