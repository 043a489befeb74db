"""A CLIP tokenizer with a byte-pair vocabulary learnt from the captions.

python -m tools.embedded_base.tokenizer
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from . import icons
from .augment import Composer

MAX_LENGTH = 32
MERGES = 1600
EXPORTED = Path(__file__).parents[2] / "lorastyle" / "bases" / "embedded" / "tokenizer"
START, END = "<|startoftext|>", "<|endoftext|>"


def folder() -> Path:
    return icons.work_folder() / "tokenizer"


def learn(captions: list[str]) -> CLIPTokenizer:
    """All bytes (alone and at a word's end), then the commonest merges of the captions."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=MERGES + 512, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator(captions, trainer)
    merges = [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]]
    words = [*alphabet, *(f"{a}</w>" for a in alphabet)]
    words += [w for w in dict.fromkeys(a + b for a, b in merges) if w not in set(words)]
    vocabulary = {w: i for i, w in enumerate([*words, START, END])}
    target = folder()
    target.mkdir(parents=True, exist_ok=True)
    (target / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (target / "merges.txt").write_text("#version: 0.2\n" + "\n".join(f"{a} {b}" for a, b in merges) + "\n")
    made = CLIPTokenizer(str(target / "vocab.json"), str(target / "merges.txt"), model_max_length=MAX_LENGTH)
    made.save_pretrained(target)
    return made


def load() -> CLIPTokenizer:
    """The tokenizer of the work folder, else the package's own, which the package's weights go with."""
    return CLIPTokenizer.from_pretrained(folder() if folder().exists() else EXPORTED)


def main() -> None:
    made = learn(Composer().captions(4000))
    for text in (
        "a red apple, noto style",
        "a small green cat on a blue background, flat style",
        "zebrafish",
    ):
        print(made.tokenize(text))
    print(len(made), "tokens")


if __name__ == "__main__":
    main()
