"""Words in file names, and words with the trigger."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorastyle.train.captions import (
    Caption,
    article,
    clean,
    default_trigger,
    has_word,
    noun_phrase,
    repeats_of,
    style_prompt,
    subject_prompt,
    without_trigger,
    words_of,
)


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("red-apple", "red apple"),
        ("a cat on a sofa", "a cat on a sofa"),
        ("tea_cup (2)", "tea cup"),
        ("tea-cup-12", "tea cup"),
        ("0012_tea-cup", "tea cup"),
        ("2 cats", "2 cats"),
        ("t-shirt", "t shirt"),
        ("owl", "owl"),
        ("猫", "猫"),
        ("Frühstücks-ei", "Frühstücks ei"),
        ("image of a dog", "image of a dog"),
        ("decade", "decade"),
        ("facade", "facade"),
    ],
)
def test_words_in_a_file_name(stem: str, words: str) -> None:
    assert words_of(stem) == words


@pytest.mark.parametrize(
    "stem",
    [
        "IMG_1234",
        "IMG_20240101_123456",
        "IMG-20240101-WA0001",
        "PXL_20230101_123456789.MP",
        "DSC00017",
        "DSC_0001",
        "P1010001",
        "000012",
        "2024-01-02",
        "frame_0001",
        "image (3)",
        "Untitled-1",
        "unnamed",
        "Screenshot 2024-01-02 at 10.11.12",
        "WhatsApp Image 2024-01-01 at 10.11.12",
        "d41d8cd98f00b204e9800998ecf8427e",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "photo-1518791841217-8f162f1e1131",
        "pexels-john-doe-12345",
        "0_8KqSDFx1tY",
        "a",
        "xqz",
        "",
        "-",
    ],
)
def test_file_names_without_words(stem: str) -> None:
    assert words_of(stem) == ""


@pytest.mark.parametrize(
    ("folder", "trigger"),
    [
        ("ink", "ink"),
        ("My Cat (2024)", "mycat2024"),
        ("10_sks dog", "sksdog"),
        ("Ünï", "ünï"),
        ("Neon Style", "neon"),
        ("10", "mystyle"),
        ("!!!", "mystyle"),
        ("images", "mystyle"),
        ("style", "mystyle"),
    ],
)
def test_triggers_are_single_words(folder: str, trigger: str) -> None:
    assert default_trigger(Path("/x") / folder) == trigger


def test_the_trigger_of_this_folder_is_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ink").mkdir()
    monkeypatch.chdir(tmp_path / "ink")
    assert default_trigger(Path(".")) == "ink"


def test_repeats() -> None:
    assert repeats_of("10_sks dog") == (10, "sks dog")
    assert [repeats_of(name) for name in ("cat", "10", "10_", "x10_cat")] == [None] * 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("owl", "an owl"),
        ("cat", "a cat"),
        ("the sun", "the sun"),
        ("two cats", "two cats"),
        ("3 cats", "3 cats"),
        ("animal", "an animal"),
        ("theatre", "a theatre"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("hourglass", "an hourglass"),
        ("house", "a house"),
    ],
)
def test_articles(words: str, said: str) -> None:
    assert article(words) == said


def test_plurals_have_no_article() -> None:
    assert [
        noun_phrase(w) for w in ("grapes", "red shoes", "glass", "iris", "cactus", "bunch of grapes")
    ] == [
        "grapes",
        "red shoes",
        "a glass",
        "an iris",
        "a cactus",
        "a bunch of grapes",
    ]
    assert Caption("red apple", "file name").described == "a red apple"
    assert Caption("red apple", "a.txt").described == "red apple", "what a person wrote is kept"


def test_words_are_found_whole() -> None:
    assert has_word("a Blob here", "blob") and has_word("a blob, here", "blob") and has_word("l'été", "été")
    assert not has_word("a blobby here", "blob") and not has_word("oblob", "blob")
    assert has_word("c++ style", "c++") and not has_word("c style", "c++")


def test_clean() -> None:
    assert clean(" a\r\n cat,\t\x00\x1b[31m ;") == "a cat, [31m"
    assert clean("e\u0301te") == "\u00e9te", "one way of writing accents"


def test_style_prompts() -> None:
    assert style_prompt("a red apple", "ink") == "a red apple, ink style"
    assert style_prompt("", "ink") == "ink style"
    assert style_prompt("an apple in INK style", "ink") == "an apple in INK style"
    assert style_prompt("a pink apple", "ink") == "a pink apple, ink style"


@pytest.mark.parametrize(
    ("caption", "prompt"),
    [
        ("", "a blobby face"),
        ("a face on a sofa", "a blobby face on a sofa"),
        ("An old face", "An old blobby face"),
        ("an face", "a blobby face"),
        ("smiling", "a blobby face, smiling"),
        ("photo of Blobby", "photo of Blobby"),
        ("two faces", "a blobby face, two faces"),
    ],
)
def test_subject_prompts(caption: str, prompt: str) -> None:
    assert subject_prompt(caption, "blobby", "face") == prompt


def test_subject_prompts_without_a_class_and_with_a_vowel() -> None:
    assert subject_prompt("", "blobby", "") == "a blobby"
    assert subject_prompt("on a sofa", "ohwx", "") == "an ohwx, on a sofa"
    assert subject_prompt("a cat sleeps", "ohwx", "cat") == "an ohwx cat sleeps"


@pytest.mark.parametrize(
    ("caption", "rest"),
    [
        ("a cat, ink style", "a cat"),
        ("a cat in ink style", "a cat"),
        ("a cat in the Ink style, on a sofa", "a cat, on a sofa"),
        ("an ink cat", "a cat"),
        ("ink, a cat", "a cat"),
        ("a drawing of an ink", "a drawing"),
        ("a pink cat", "a pink cat"),
        ("ink style", ""),
        ("", ""),
    ],
)
def test_what_is_left_without_the_trigger(caption: str, rest: str) -> None:
    assert without_trigger(caption, "ink") == rest
