"""Words of an adapter's own, read by a text encoder as the vectors that they are.

Neither the tokenizer nor the model's table of embeddings is changed: such a word gets ids that no vocabulary
has, and its vectors are put in their places as they leave the table. A model that looks for the end of a
sentence by its largest id (as CLIP's older configurations do) therefore finds it where it is.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_FIRST = 2**20  # an id beyond every vocabulary


class Words:
    """The words that one text encoder knows besides its vocabulary, by their own names."""

    def __init__(self) -> None:
        self._places: dict[str, range] = {}  # lower case: its ids
        self._vectors = torch.zeros(0, 0)
        self._pattern: re.Pattern[str] | None = None

    def set(self, words: Mapping[str, Tensor]) -> None:
        """Know these words, {word: vectors (n, width)}, and no others."""
        self._places, start = {}, _FIRST
        for word, vectors in words.items():
            self._places[word.lower()] = range(start, start + len(vectors))
            start += len(vectors)
        self._vectors = torch.cat([v.float() for v in words.values()]) if words else torch.zeros(0, 0)
        names = "|".join(re.escape(word) for word in sorted(self._places, key=len, reverse=True))
        self._pattern = re.compile(rf"(?<!\w)({names})(?!\w)", re.IGNORECASE) if names else None

    def split(self, text: str) -> list[str | range]:
        """The text in pieces: what the tokenizer reads, and the ids of the words in between."""
        if self._pattern is None:
            return [text]
        pieces: list[str | range] = []
        for i, piece in enumerate(self._pattern.split(text)):
            if i % 2:
                pieces.append(self._places[piece.lower()])
            elif piece.strip():
                pieces.append(piece)
        return pieces

    @contextmanager
    def put(self, model: Any, ids: Tensor) -> Generator[Tensor]:
        """Inside, the model's table answers with the words' vectors where `ids` (b, n) has theirs.

        Yields the ids to give to the model, with id 0, which every vocabulary has, in those places.
        """
        own = ids >= _FIRST
        if not bool(own.any()):
            yield ids
            return
        rows = self._vectors[ids[own] - _FIRST]

        def insert(_module: nn.Module, _given: object, found: Tensor) -> Tensor:
            found = found.clone()
            found[own.to(found.device)] = rows.to(found)
            return found

        hook = model.get_input_embeddings().register_forward_hook(insert)
        try:
            yield torch.where(own, 0, ids)
        finally:
            hook.remove()
