"""What the UNet reads at each step, and what its answers come to.

Several prompts are composed as in Liu et al. 2022 (arXiv:2206.01714), with weights as in A1111:
negative + guidance * sum of weight_i * (prompt_i - negative).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorastyle.bases import PromptEmbeds


@dataclass(frozen=True, eq=False)
class Words:
    """What the UNet reads at one step, for a batch of b pictures.

    Attributes:
        wanted: for each of the prompts that `AND` joins, the embeddings of each picture (b).
        unwanted: of each picture's negative prompt (b).
        weights: of the prompts.
    """

    wanted: tuple[PromptEmbeds, ...]
    unwanted: PromptEmbeds
    weights: tuple[float, ...] = (1.0,)

    def repeat(self, times: int) -> Words:
        """The whole batch `times` over."""
        wanted = tuple(each.repeat(times) for each in self.wanted)
        return Words(wanted, self.unwanted.repeat(times), self.weights)

    @staticmethod
    def cat(parts: Sequence[Words]) -> Words:
        """Batches of as many prompts as one batch."""
        wanted = tuple(PromptEmbeds.cat(each) for each in zip(*(part.wanted for part in parts), strict=True))
        return Words(wanted, PromptEmbeds.cat([part.unwanted for part in parts]), parts[0].weights)

    def asked(self, guidance: float) -> PromptEmbeds:
        """What the UNet is asked in one call: the negatives, where they matter, then each of the prompts."""
        return PromptEmbeds.cat([self.unwanted, *self.wanted] if self.guided(guidance) else self.wanted)

    def guided(self, guidance: float) -> bool:
        """Whether the negatives matter: with guidance, and where several prompts add up."""
        return guidance > 1 or self.weights != (1.0,)

    def sides(self, guidance: float) -> int:
        """How many samples of the UNet's batch one picture takes."""
        return len(self.wanted) + self.guided(guidance)

    def answer(self, answers: Tensor, guidance: float, rescale: float) -> Tensor:
        """What the UNet's answers (sides * b, c, h, w) to `asked` come to, (b, c, h, w).

        Guidance of 1 and below counts as 1 where several prompts add up.

        Args:
            rescale: share of the way to the spread of the answer to the prompts alone; see `rescaled`.
        """
        if not self.guided(guidance):
            return answers
        plain, *asked = answers.chunk(self.sides(guidance))
        if self.weights == (1.0,):
            return rescaled(plain + guidance * (asked[0] - plain), asked[0], rescale)
        towards = sum(
            (weight * (each - plain) for weight, each in zip(self.weights, asked, strict=True)),
            start=torch.zeros_like(plain),
        )
        return rescaled(plain + max(guidance, 1.0) * towards, plain + towards, rescale)

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        tensors = [tensor for each in (*self.wanted, self.unwanted) for tensor in (each.tokens, each.pooled)]
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


@dataclass(frozen=True, eq=False)
class Script:
    """What the UNet reads at every step, for a batch of b pictures.

    Attributes:
        passes: as those of a `Plan`; steps that read the same share their `Words`.
    """

    passes: tuple[tuple[Words, ...], ...]

    @classmethod
    def plain(cls, words: Words) -> Script:
        """The same throughout."""
        return cls(((words,),))

    def at(self, number: int, call: int, calls: int) -> Words:
        """What is read in the pass of that number at a call of the UNet.

        Args:
            call, calls: its number in the pass, from 0, and how many there are. Where these are more than the
                steps (PNDM asks twice for its first), the first step has all that are too many.
        """
        steps = self.passes[min(number, len(self.passes) - 1)]
        return steps[min(max(call - max(calls - len(steps), 0), 0), len(steps) - 1)]

    @property
    def first(self) -> Words:
        """What is read at the first step."""
        return self.passes[0][0]

    @property
    def length(self) -> int:
        """How many tokens the first step reads."""
        return self.first.unwanted.tokens.shape[1]

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        return sum(words.nbytes for words in {id(w): w for steps in self.passes for w in steps}.values())

    def repeat(self, times: int) -> Script:
        """The whole batch `times` over."""
        return Script.of([self], lambda words: words[0].repeat(times))

    @staticmethod
    def cat(parts: Sequence[Script]) -> Script:
        """Batches that change at the same steps as one batch."""
        return Script.of(parts, Words.cat)

    @staticmethod
    def of(parts: Sequence[Script], make: Callable[[Sequence[Words]], Words]) -> Script:
        """One script of several, step by step; what was shared stays so."""
        made: dict[tuple[int, ...], Words] = {}

        def one(words: tuple[Words, ...]) -> Words:
            key = tuple(map(id, words))
            if key not in made:
                made[key] = make(words)
            return made[key]

        passes = zip(*(part.passes for part in parts), strict=True)
        return Script(tuple(tuple(one(words) for words in zip(*steps, strict=True)) for steps in passes))


def rescaled(answer: Tensor, asked: Tensor, share: float) -> Tensor:
    """A share of the way from `answer` to what has the spread of `asked`, both (b, c, h, w).

    Guidance makes answers larger, and bases that end in pure noise overexpose by it (Lin et al. 2023,
    arXiv:2305.08891, section 3.4).
    """
    if not share:
        return answer
    spread = asked.std((1, 2, 3), keepdim=True) / answer.std((1, 2, 3), keepdim=True)
    return answer * (share * spread + 1 - share)
