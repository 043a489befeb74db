"""One tokenizer with its text encoder: words to ids, ids to hidden states."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from lorastyle.notes import note

from .emphasis import spans
from .words import Words

_BREAK = re.compile(r"\bBREAK\b")


@dataclass(frozen=True, eq=False)
class Chunk:
    """As many tokens as a text encoder reads at once.

    Attributes:
        ids: (1, max_tokens), with start, end and padding.
        weights: (max_tokens,), how much each token counts; 1 for start, end and padding.
    """

    ids: Tensor
    weights: Tensor


class TextReader:
    """Reads prompts with one CLIP text encoder.

    Args:
        tokenizer, model: the pipeline's own.
        name: of the base, for warnings.
    """

    def __init__(self, tokenizer: Any, model: Any, name: str) -> None:
        self._tokenizer, self.model, self._name = tokenizer, model, name
        self._words = Words()
        self.max_tokens: int = min(int(tokenizer.model_max_length), int(model.config.max_position_embeddings))

    def set_words(self, words: Mapping[str, Tensor]) -> None:
        """Read these words of adapters, vectors (n, width), when drawing; and no others any more."""
        self._words.set(words)

    @property
    def width(self) -> int:
        """Of an embedded token."""
        return int(self.model.config.hidden_size)

    @property
    def room(self) -> int:
        """Tokens of a prompt that fit between start and end."""
        return self.max_tokens - int(self._tokenizer.num_special_tokens_to_add(pair=False))

    def cut(self, prompts: Sequence[str]) -> Tensor:
        """Ids (b, max_tokens); words beyond are dropped."""
        return self._padded(list(prompts))

    def chunks(self, prompt: str) -> list[Chunk]:
        """The whole prompt in as many chunks as it needs, with its brackets read as weights.

        `BREAK`, a whole word in capitals, fills up its chunk and starts the next one, as in A1111; at the end
        of a prompt it starts none. A comma within the last quarter of a chunk ends it, so that phrases stay
        together where they can.
        """
        sections: list[list[tuple[int, float]]] = [[]]
        for span in spans(prompt):
            for i, text in enumerate(_BREAK.split(span.text)):
                if i > 0:
                    sections.append([])
                sections[-1] += [(token, span.weight) for token in self._ids(text)]
        if len(sections) > 1 and not sections[-1]:
            sections.pop()
        return [self._chunk(part) for tokens in sections for part in self._parts(tokens)]

    def _parts(self, tokens: list[tuple[int, float]]) -> list[list[tuple[int, float]]]:
        """Tokens in as many parts as it takes for each to fit into a chunk."""
        parts: list[list[tuple[int, float]]] = []
        while len(tokens) > self.room:
            end = self._phrase_end([token for token, _ in tokens[: self.room]])
            parts.append(tokens[:end])
            tokens = tokens[end:]
        return [*parts, tokens]

    def places(self, prompt: str, words: str) -> Tensor:
        """(chunks * max_tokens,), True where a token of the prompt belongs to these words, wherever they
        follow one another in it; False everywhere where they do not.

        A text encoder that reads from left to right says in a token what came before it, so a comma behind
        the words, or the end of the prompt, belongs to them, too.
        """
        ids = torch.cat([chunk.ids[0] for chunk in self.chunks(prompt)])
        wanted = torch.tensor([token for span in spans(words) for token in self._ids(span.text)])
        found = torch.zeros(len(ids), dtype=torch.bool)
        if 0 < len(wanted) <= len(ids):
            starts = (ids.unfold(0, len(wanted), 1) == wanted).all(1).nonzero()
            found[(starts + torch.arange(len(wanted))).flatten()] = True
            after = (starts + len(wanted)).clamp(max=len(ids) - 1).flatten()
            found[[place for place in after.tolist() if int(ids[place]) in self._closing]] = True
        return found

    def states(self, ids: Tensor, skip: int) -> tuple[Tensor, Tensor | None]:
        """Hidden states (b, max_tokens, dim) before the last `skip` - 1 layers, without the last norm; and
        the projected sentence (b, dim) where the model has a projection.
        """
        with self._words.put(self.model, ids) as known:
            answer = self.model(
                known.to(self._device), attention_mask=self._mask(ids), output_hidden_states=True
            )
        return answer.hidden_states[-skip], getattr(answer, "text_embeds", None)

    def last(self, ids: Tensor, skip: int = 1) -> Tensor:
        """Hidden states (b, max_tokens, dim) after the last norm, without the last `skip` - 1 layers."""
        if skip == 1:
            with self._words.put(self.model, ids) as known:
                return self.model(known.to(self._device), attention_mask=self._mask(ids))[0]
        core = getattr(self.model, "text_model", self.model)
        return core.final_layer_norm(self.states(ids, skip)[0])

    @property
    def layers(self) -> int:
        """How many layers it has."""
        return int(self.model.config.num_hidden_layers)

    @property
    def _device(self) -> torch.device:
        return cast(torch.device, self.model.device)

    def _mask(self, ids: Tensor) -> Tensor | None:
        """Most CLIP encoders see their padding; some configs ask that they do not."""
        if not getattr(self.model.config, "use_attention_mask", False):
            return None
        end = self._tokenizer.eos_token_id
        first = (ids == end).int().argmax(1, keepdim=True)
        return (torch.arange(ids.shape[1]) <= first).long().to(self._device)

    @cached_property
    def _closing(self) -> frozenset[int]:
        """Tokens that end a phrase."""
        marks = [token for mark in ",.;:!?" for token in self._ids(mark)[-1:]]
        return frozenset([*marks, int(self._padded([""])[0, 1])])

    def _padded(self, texts: list[str]) -> Tensor:
        tokens = self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return cast(Tensor, tokens.input_ids)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in self._words.split(text):
            if isinstance(piece, range):
                ids.extend(piece)
            else:
                ids += self._tokenizer(piece, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _phrase_end(self, ids: list[int]) -> int:
        comma = self._ids(",")[-1:]
        for end in range(len(ids), len(ids) * 3 // 4, -1):
            if ids[end - 1 : end] == comma:
                return end
        return len(ids)

    def _chunk(self, tokens: list[tuple[int, float]]) -> Chunk:
        # The tokenizer's own empty prompt shows where start, end and padding go.
        ids = self._padded([""])
        end = ids[0, 1].clone()
        weights = torch.ones(self.max_tokens)
        count = len(tokens)
        if count:
            ids[0, 1 : 1 + count] = torch.tensor([token for token, _ in tokens])
            weights[1 : 1 + count] = torch.tensor([weight for _, weight in tokens])
            ids[0, 1 + count] = end
        return Chunk(ids, weights)

    def warn_of_dropped_words(self, prompts: Sequence[str]) -> None:
        """Name what `cut` drops."""
        for prompt in prompts:
            ids = self._ids(prompt)
            if len(ids) > self.room:
                dropped = str(self._tokenizer.decode(ids[self.room : self.room + 100])).strip()
                dropped = dropped if len(ids) <= self.room + 100 else f"{dropped} ..."
                note(
                    f'The prompt is {len(ids)} tokens long and the base "{self._name}" reads {self.room}. '
                    f'Dropped: "{dropped}".',
                    stacklevel=3,
                )
