"""What prompts become for a UNet: token embeddings, and for some families one pooled vector as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PromptEmbeds:
    """A batch of encoded prompts.

    Attributes:
        tokens: (b, tokens, dim), what cross-attention reads.
        pooled: (b, dim), the sentence as one vector; None in families that do without (SD 1.x and 2.x).
    """

    tokens: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, some: slice) -> PromptEmbeds:
        return self._each(lambda x: x[some])

    def repeat(self, times: int) -> PromptEmbeds:
        """The whole batch `times` over."""
        return self._each(lambda x: x.repeat(times, *[1] * (x.ndim - 1)))

    def to(self, dtype: torch.dtype) -> PromptEmbeds:
        """The same in another dtype."""
        return self._each(lambda x: x.to(dtype))

    def detach(self) -> PromptEmbeds:
        """The same without gradients."""
        return self._each(Tensor.detach)

    @staticmethod
    def cat(parts: Sequence[PromptEmbeds]) -> PromptEmbeds:
        """Batches of one family as one batch."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return PromptEmbeds(torch.cat([part.tokens for part in parts]), torch.cat(pooled) if pooled else None)

    def _each(self, change: Callable[[Tensor], Tensor]) -> PromptEmbeds:
        return PromptEmbeds(change(self.tokens), None if self.pooled is None else change(self.pooled))
