"""Words that travel inside an adapter: textual inversions under `bundle_emb.<word>.`, as A1111 reads them.

A word is one or more vectors for each text encoder (Gal et al. 2022, arXiv:2208.01618). Source:
`extensions-builtin/Lora/networks.py` of github.com/AUTOMATIC1111/stable-diffusion-webui.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "bundle_emb."
_ENDS = {
    ".string_to_param.*": "text_encoder",
    ".emb_params": "text_encoder",
    ".clip_l": "text_encoder",
    ".clip_g": "text_encoder_2",
}


def parse_word(key: str) -> tuple[str, str] | None:
    """(word, component) of a word's tensor; None for any other key."""
    if not key.startswith(_PREFIX):
        return None
    for end, component in _ENDS.items():
        if key.endswith(end) and len(key) > len(_PREFIX) + len(end):
            return key[len(_PREFIX) : -len(end)], component
    return None


def write_words(words: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Their tensors, named for SDXL where a word has vectors for its second text encoder."""
    tensors: dict[str, Tensor] = {}
    for word, vectors in words.items():
        first = ".clip_l" if "text_encoder_2" in vectors else ".string_to_param.*"
        for component, tensor in vectors.items():
            end = first if component == "text_encoder" else ".clip_g"
            tensors[f"{_PREFIX}{word}{end}"] = tensor
    return tensors
