"""Words that are read apart: each place of the picture sees them as the adapters that act there read them.

Keys and values belong to words and not to places, so no gate can confine them. Instead cross-attention is
asked once for each reading, as samples of one larger batch, and each place takes the answer of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .regions import Regions

_READS_WORDS = ("to_k", "to_v")


def is_cross_attention(module: nn.Module) -> bool:
    """By what diffusers' Attention says of itself."""
    return bool(getattr(module, "is_cross_attention", False))


def reads_words(parent: nn.Module, attribute: str) -> bool:
    """Whether the tokens that come to this child are words."""
    return attribute in _READS_WORDS and is_cross_attention(parent)


@contextmanager
def reading_apart(model: nn.Module, regions: Regions, readings: Sequence[Tensor]) -> Generator[None]:
    """For the length of a `with` block, every cross-attention of `model` mixes readings by place.

    The answer is a_0 + sum of f_i (a_i - a_0), where a_0 is for the words that the model is called with, a_i
    for reading i and f_i the field of the adapter it belongs to: the answer of one reading wherever one field
    is 1, and fields that overlap add.

    Args:
        readings: of each confined adapter, (b, words, width): the batch that the model is called with.
    """
    with ExitStack() as undo:
        for module in model.modules():
            if is_cross_attention(module):
                undo.enter_context(replaced_forward(module, _apart(module, regions, readings)))
        yield


def _apart(module: nn.Module, regions: Regions, readings: Sequence[Tensor]) -> Callable[..., Tensor]:
    own: Callable[..., Tensor] = module.forward

    def forward(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **more: Any,
    ) -> Tensor:
        assert encoder_hidden_states is not None
        copies = regions.copies
        words = torch.cat([encoder_hidden_states, *(r.to(encoder_hidden_states) for r in readings)])
        mask = None if attention_mask is None else attention_mask.repeat(copies, 1, 1)
        answer = own(hidden_states.repeat(copies, 1, 1), words, mask, **more)
        common, *apart = answer.chunk(copies)
        mixed = common.clone()
        for share, one in zip(regions.shares(common.shape[1], common), apart, strict=True):
            mixed += share * (one - common)
        return mixed

    return forward


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Tensor]) -> Generator[None]:
    """For the length of a `with` block, calls of the module come to `forward`."""
    before = module.__dict__.get("forward")  # accelerate puts its own there
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before
