"""Names that every system takes, that are not taken twice, and that lead nowhere else."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath

import pytest

from lorastyle.batch import Template
from lorastyle.batch.names import Names, is_inside, safe_part
from lorastyle.errors import ConfigError
from lorastyle.generate import AdapterUse, GenerateRequest

from .conftest import Expand

CAT = GenerateRequest("A cat, on a Mat!", seed=7, adapters=(AdapterUse("x/My Cat.safetensors", 0.8),))


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{index:05}-{seed}-{prompt}", "00003-7-a-cat-on-a-mat.png"),
        ("{prompt:5}", "a-cat.png"),
        ("{adapters}/{hash}", "my-cat-0.8/01234567.png"),
        ("{seed:4}.webp", "0007.webp"),
        ("a/b/{index}.JPG", "a/b/3.jpg"),
        ("a.png/{index}", "a.png_/3.png"),
        ("{width}x{height}-{scheduler}-{guidance}-{base}-{negative}", "ownxown-own-own-own-none.png"),
        ("what: is* this?", "what- is- this-.png"),
        ("con", "con_.png"),
        ("LPT1.png", "LPT1.png_.png"),
        (".hidden", "hidden.png"),
        ("{{index}}", "{index}.png"),
        ("dots...", "dots.png"),
        ("v1.5", "v1.5.png"),
        ("//", None),
        ("   ", None),
    ],
)  # fmt: skip
def test_templates(pattern: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(ConfigError):
            Template(pattern).fill(3, CAT, "0123456789abcdef")
    else:
        assert Template(pattern).fill(3, CAT, "0123456789abcdef") == name


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("../x", "leads out of the folder"),
        ("a/../../x", "leads out"),
        ("/etc/x", "leads out"),
        ("C:\\x", "leads out"),
        ("C:x", "leads out"),
        ("..\\x", "leads out"),
        ("a\\b", "leads out"),
        ("{prompt.__class__}", "has the field 'prompt.__class__'"),
        ("{prompt[0]}", "has the field"),
        ("{0}", "has the field"),
        ("{}", "has the field"),
        ("{prompt!r}", "has the field"),
        ("{sed}", 'Did you mean "seed"?'),
        ("{index:{seed}}", "is no width"),
        ("{index:99999}", "is no width"),
        ("{index", "is no template"),
        (3, "text is needed"),
        (["a"], "text is needed"),
    ],
)
def test_templates_that_are_refused(pattern: object, complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        Template(pattern)


@pytest.mark.parametrize(
    "prompt",
    [
        "../../etc/passwd",
        "..",
        "/",
        "\\\\server\\share",
        "nul",
        "a\0b",
        "e\u0301" * 300,
        "猫" * 300,
        "\u202e",
    ],
)
def test_prompts_make_safe_names(prompt: str, tmp_path: Path) -> None:
    name = Template("{prompt}").fill(1, GenerateRequest(prompt), "0" * 16)
    assert is_inside(name) and "/" not in name and len(name.encode()) < 255
    assert not PureWindowsPath(name).is_reserved() if hasattr(PureWindowsPath, "is_reserved") else True
    (tmp_path / name).touch()


def test_long_names_are_cut_in_whole_letters() -> None:
    assert safe_part("ü" * 200) == "ü" * 90
    assert len(Template("x" * 400).fill(1, CAT, "0" * 16)) == 184


def test_names_that_differ_in_case_alone_are_not_taken_twice() -> None:
    names = Names(Template("{prompt}"))
    keys = ("aaaaaaaa00", "bbbbbbbb00", "bbbbbbbb11", "cccccccc00")
    patterns = (None, "A-CAT-ON-A-MAT", "a-cat-on-a-mat", "contact-sheet")
    assert [
        names.take(pattern, i, CAT, key) for i, (pattern, key) in enumerate(zip(patterns, keys, strict=True))
    ] == [
        "a-cat-on-a-mat.png",
        "A-CAT-ON-A-MAT-bbbbbbbb.png",
        "a-cat-on-a-mat-bbbbbbbb-2.png",
        "contact-sheet-cccccccc.png",
    ]


def test_names_do_not_depend_on_who_asks(expanded: Expand) -> None:
    text = '{"prompt": "a", "name": "x"}\n{"prompt": "b", "name": "x"}\n'
    names = [[item.name for item in expanded(text, "jsonl").items] for _ in range(2)]
    assert (
        names[0] == names[1] and names[0][0] == "x.png" and re.fullmatch(r"x-[0-9a-f]{8}\.png", names[0][1])
    )
