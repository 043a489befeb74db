"""CLIP's tokenizer, made from the byte-pair list that OpenAI published: no network, no model folder.

Source: `clip/simple_tokenizer.py` and `bpe_simple_vocab_16e6.txt.gz` of github.com/openai/CLIP (MIT), the
words of every Stable Diffusion 1.x, 2.x and XL.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from functools import cache
from pathlib import Path

from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = 49_408  # 256 bytes, the same at a word's end, 48,894 merges, and the two above
_MERGES = WORDS - 2 * 256 - 2
_FILE = Path(__file__).with_name("vocabulary") / "bpe_simple_vocab_16e6.txt.gz"


def clip_tokenizer(*, pad: str = END, max_tokens: int = 77) -> CLIPTokenizer:
    """A tokenizer of 49,408 words whose prompts begin with id 49406 and end with id 49407.

    Args:
        pad: what fills a prompt up: the end token for CLIP ViT-L (SD 1.x, SDXL's first), "!" (id 0) for
            OpenCLIP (SD 2.x, SDXL's second).
        max_tokens: length of a prompt with both ends, as many as the text encoder has positions for.
    """
    merges = _merges()
    with tempfile.TemporaryDirectory() as folder:
        # as files, because transformers 4 and 5 take them by different arguments
        vocabulary, pairs = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        vocabulary.write_text(json.dumps(_vocabulary(merges), ensure_ascii=False), encoding="utf-8")
        pairs.write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
        return CLIPTokenizer(
            str(vocabulary),
            str(pairs),
            unk_token=END,
            bos_token=START,
            eos_token=END,
            pad_token=pad,
            model_max_length=max_tokens,
        )


@cache
def _merges() -> tuple[str, ...]:
    """Pairs such as "i n", most frequent first; the file has more of them than CLIP uses."""
    with gzip.open(_FILE, "rt", encoding="utf-8") as file:
        return tuple(file.read().split("\n")[1 : 1 + _MERGES])


def _vocabulary(merges: tuple[str, ...]) -> dict[str, int]:
    letters = _letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [merge.replace(" ", "") for merge in merges]
    return {word: number for number, word in enumerate([*words, START, END])}


def _letters() -> list[str]:
    """A visible letter for each of the 256 bytes, in the vocabulary's order.

    Bytes that Latin-1 prints stand for themselves and come first; the others get letters from 256 on.
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(code) for code in [*visible, *range(256, 512 - len(visible))]]
