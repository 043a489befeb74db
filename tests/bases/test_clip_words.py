"""CLIP's tokenizer against ids that OpenAI's own gives."""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import pytest

from lorastyle.bases.clip_words import clip_tokenizer


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("A  Photo of a CAT", [320, 1125, 539, 320, 2368]),
        ("hello world!", [3306, 1002, 256]),
        (
            "a photo of an astronaut riding a horse on mars",
            [320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496],
        ),
        ("", []),
    ],
)
def test_clips_own_ids(prompt: str, ids: list[int]) -> None:
    assert clip_tokenizer()(prompt).input_ids == [49406, *ids, 49407]


def test_the_vocabulary() -> None:
    words = clip_tokenizer()
    assert len(words) == 49408
    assert words.convert_ids_to_tokens([0, 255, 256, 512, 49405, 49406, 49407]) == [
        "!", "\u0143", "!</w>", "in", "jekyll</w>", "<|startoftext|>", "<|endoftext|>",
    ]  # fmt: skip


@pytest.mark.parametrize(("pad", "number"), [("<|endoftext|>", 49407), ("!", 0)])
def test_padding(pad: str, number: int) -> None:
    ids = clip_tokenizer(pad=pad, max_tokens=8)("a cat", padding="max_length").input_ids
    assert ids == [49406, 320, 2368, 49407, *[number] * 4]
