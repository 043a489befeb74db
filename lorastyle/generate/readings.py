"""Prompts as the text encoders read them with the adapters at hand, each read once.

What a text encoder makes of a prompt depends on the prompt, the clip skip, the adapters that act on the
encoder and the words that adapters bring. As long as these are the same, so is the reading: new scales on the
UNet read nothing anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch

from lorastyle.bank import AdapterBank
from lorastyle.bases import PromptEmbeds, StableDiffusion

from .request import GenerateRequest

MOST_BYTES = 64_000_000  # of readings that are kept; 100 of SDXL, 280 of SD 1.5


@dataclass(frozen=True, eq=False)
class Words:
    """What the prompts of a batch, and as many negatives, became."""

    wanted: PromptEmbeds
    unwanted: PromptEmbeds

    def repeat(self, times: int) -> Words:
        """The whole batch `times` over."""
        return Words(self.wanted.repeat(times), self.unwanted.repeat(times))

    def asked(self, guided: bool) -> PromptEmbeds:
        """What the UNet is asked in one call: with guidance the negatives, then the prompts."""
        return PromptEmbeds.cat([self.unwanted, self.wanted]) if guided else self.wanted

    @staticmethod
    def cat(parts: Sequence[Words]) -> Words:
        """Batches as one batch."""
        wanted, unwanted = ([getattr(part, side) for part in parts] for side in ("wanted", "unwanted"))
        return Words(PromptEmbeds.cat(wanted), PromptEmbeds.cat(unwanted))

    @property
    def nbytes(self) -> int:
        """What they fill of the memory."""
        each = (self.wanted.tokens, self.wanted.pooled, self.unwanted.tokens, self.unwanted.pooled)
        return sum(tensor.nbytes for tensor in each if tensor is not None)


class Readings:
    """Reads prompts, and remembers the last ones."""

    def __init__(self, base: StableDiffusion, bank: AdapterBank) -> None:
        self._base, self._bank = base, bank
        self._known: dict[object, Words] = {}  # in the order of last use
        self._bytes = 0

    @torch.no_grad()
    def read(self, request: GenerateRequest, brought: object, silent: Sequence[str] = ()) -> Words:
        """A batch of one.

        Args:
            request: with guidance stated.
            brought: what tells the words that adapters bring from others.
            silent: adapters that the text encoders are read without.
        """
        negative = request.negative_prompt if cast(float, request.guidance) > 1 else ""
        off = {name: dict.fromkeys(self._base.text_encoders, 0.0) for name in silent}
        with self._bank.scaled(off) if off else nullcontext():
            setting = self._bank.setting_of(self._base.text_encoders)
            key = request.prompt, negative, request.clip_skip, brought, setting
            words = None if setting is None else self._known.pop(key, None)
            if words is None:
                words = Words(*self._base.read([request.prompt], [negative], clip_skip=request.clip_skip))
                self._bytes += words.nbytes if setting is not None else 0
        if setting is not None:
            self._known[key] = words
            while self._bytes > MOST_BYTES and len(self._known) > 1:
                self._bytes -= self._known.pop(next(iter(self._known))).nbytes
        return words

    def apart(self, request: GenerateRequest, brought: object, regional: Sequence[str]) -> list[Words]:
        """One reading without any of the adapters of `regional`, and one for each with it alone of them."""
        silent = [regional, *([other for other in regional if other != name] for name in regional)]
        return [self.read(request, brought, names) for names in silent]
