"""Tables as spreadsheets of several countries save them."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from lorastyle.batch import read_manifest
from lorastyle.errors import ConfigError
from lorastyle.notes import collecting

from .conftest import Expand, prompts, told

PLAIN = "prompt,seed,steps\na cat,1,20\na dog,,20\n"


def written(folder: Path, data: bytes) -> Path:
    file = folder / "m.csv"
    file.write_bytes(data)
    return file


@pytest.mark.parametrize(
    "data",
    [
        "prompt,seed,steps\na cat,1.0,20.0\na dog,,20.0\n",
        "prompt;seed;steps\na cat;1,0;20,0\na dog;;20\n",
        "sep=;\r\nprompt;seed;steps\r\na cat;1;20\r\na dog;;20\r\n",
        "Prompt\tSeed\tSteps\na cat\t1\t20\na dog\t\t2E+01\n",
        "prompt,seed,steps\ra cat,1,20\ra dog,,20\r",
        'prompt,seed,steps,,\n"a cat","1","20",,\na dog,,20,,\n,,,,\n',
        "prompt,seed,steps\na cat,\u00a01\u00a0,20\na dog,,20\n",
        codecs.BOM_UTF8 + PLAIN.encode(),
        codecs.BOM_UTF16_LE + PLAIN.replace(",", "\t").encode("utf-16-le"),
        PLAIN.replace(",", "\t").encode("utf-16-le"),
    ],
)
def test_the_same_table_in_many_ways(expanded: Expand, data: str | bytes) -> None:
    with collecting():
        found = expanded(data, "csv")
    cat, dog = (item.request for item in found.items)
    assert (cat.prompt, cat.seed, cat.steps) == ("a cat", 1, 20)
    assert (dog.prompt, dog.steps) == ("a dog", 20)


def test_whole_numbers_with_a_fraction_are_refused(expanded: Expand) -> None:
    found = expanded("prompt,steps\na cat,20.5\n", "csv")
    assert "steps is 20.5; a whole number" in told(found)[0]


@pytest.mark.parametrize("kind", ["yaml", "jsonl"])
def test_other_manifests_take_them_as_well(expanded: Expand, kind: str) -> None:
    item = '{"prompt": "a cat", "seed": 1.0, "steps": 2e1, "size": 128.0}'
    found = expanded(f"items: [{item}]" if kind == "yaml" else item, kind)
    request = found.items[0].request
    assert (request.seed, request.steps, request.width) == (1, 20, 128)
    assert all(isinstance(value, int) for value in (request.seed, request.steps, request.width))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("a cat,01.02.2026", "line 2, column 2: steps is '01.02.2026', a date"),
        ("a cat,2026-12-01", "a date"),
        ("a cat,1-Dec", "a date"),
        ("a cat,Dez 26", "a date"),
        ("a cat,12/1/2026", "a date"),
    ],
)
def test_dates_are_named(expanded: Expand, row: str, complaint: str) -> None:
    assert complaint in told(expanded(f"prompt,steps\n{row}\nafter,3\n", "csv"))[0]


@pytest.mark.parametrize("prompt", ["1-Dec", "12/1/2026", "20.0", "TRUE"])
def test_a_prompt_is_never_a_date_or_a_number(expanded: Expand, prompt: str) -> None:
    assert prompts(expanded(f"prompt,steps\n{prompt},3\n", "csv")) == [prompt]


def test_a_seed_that_a_spreadsheet_rounded_is_said(expanded: Expand) -> None:
    with collecting() as notes:
        expanded("prompt,seed\na cat,1.23E+15\n", "csv")
    assert len(notes) == 1 and "line 2, column 2" in notes[0] and "rounded" in notes[0]
    with collecting() as notes:
        expanded("prompt,seed\na cat,1.2E+01\n", "csv")
    assert notes == []


def test_windows_letters_are_read_with_a_note(tmp_path: Path) -> None:
    file = written(tmp_path, "prompt;steps\na woman\u2019s hat;20\n".encode("cp1252"))
    with collecting() as notes:
        manifest = read_manifest(file)
    assert manifest.entries[0].values["prompt"] == "a woman\u2019s hat"
    assert len(notes) == 1 and "line 2: the file is not in UTF-8 and was read as Windows-1252" in notes[0]


@pytest.mark.parametrize(("word", "value"), [("WAHR", True), ("FALSCH", False), ("TRUE", True), ("0", False)])
def test_true_and_false_of_several_languages(tmp_path: Path, word: str, value: bool) -> None:
    (entry,) = read_manifest(written(tmp_path, f"prompt;mixture\na cat;{word}\n".encode())).entries
    assert entry.values["mixture"] is value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("yaml", 'items:\n  - {prompt: a, init: "C:\\pics\\x.png"}\n'),
        ("yaml", 'items:\n  - {prompt: a, init: "C:\\new\\t.png"}\n'),
        ("jsonl", '{"prompt": "a", "init": "C:\\pics\\x.png"}'),
        ("jsonl", '{"prompt": "a", "init": "C:\\new\\t.png"}'),
    ],
)
def test_paths_of_windows_in_double_quotes(expanded: Expand, kind: str, text: str) -> None:
    try:
        complaints = told(expanded(text, kind))
    except ConfigError as error:
        complaints = [str(error)]
    assert "backslash begins an escape" in " ".join(complaints)
