"""Where a UNet sees words: how much each place of the picture attends to them, while it is drawn.

The map of some words is the sum over all layers, heads and calls of the cross-attention to their tokens, each
brought to the size of the latents (DAAM; Tang et al. 2022, arXiv:2210.04885).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .cross_attention import is_cross_attention, replaced_forward
from .regions import grid_of


class AttentionMaps:
    """How much the places of one picture have attended to words so far.

    Args:
        tokens: {name: (words,), 1 at the tokens that it stands for}, of the prompt, which may be filled up.
        size: (height, width) of the maps.
    """

    def __init__(self, tokens: Mapping[str, Tensor], size: tuple[int, int]) -> None:
        self._names, self.size = tuple(tokens), size
        self._tokens = torch.stack([m.float() for m in tokens.values()], 1) if tokens else torch.zeros(0, 0)
        self._sums = torch.zeros(len(tokens), *size)

    @property
    def maps(self) -> dict[str, Tensor]:
        """{name: (height, width)}, each from 0, where its words are seen least, to 1, where most."""
        low, high = (self._sums.flatten(1).aminmax(dim=1)[i][:, None, None] for i in (0, 1))
        return dict(zip(self._names, (self._sums - low) / (high - low).clamp(min=1e-12), strict=True))

    @contextmanager
    def watching(self, model: nn.Module, grid: tuple[int, int]) -> Generator[None]:
        """For the length of a `with` block, add up what every cross-attention of `model` does with the last
        sample of its batch, which is what is wanted where guidance asks for the unwanted first.

        Args:
            grid: (height, width) of the latents that are drawn.
        """
        with ExitStack() as undo:
            for module in model.modules() if self._names else ():
                if is_cross_attention(module):
                    undo.enter_context(replaced_forward(module, self._watched(module, grid)))
            yield

    def _watched(self, module: Any, grid: tuple[int, int]) -> Callable[..., Tensor]:
        own: Callable[..., Tensor] = module.forward

        def forward(
            hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **more: Any
        ) -> Tensor:
            assert encoder_hidden_states is not None
            self._see(module, hidden_states[-1:], encoder_hidden_states[-1:], grid)
            return own(hidden_states, encoder_hidden_states, *args, **more)

        return forward

    @torch.no_grad()
    def _see(self, module: Any, places: Tensor, words: Tensor, grid: tuple[int, int]) -> None:
        """
        Args:
            places: (1, places, width), as the layer is asked.
            words: (1, words, width).
        """
        queries, keys = (module.head_to_batch_dim(x) for x in (module.to_q(places), module.to_k(words)))
        seen: Tensor = module.get_attention_scores(queries, keys).mean(0)  # (places, words)
        found = (
            seen.float().cpu()[:, : len(self._tokens)] @ self._tokens
        )  # it may be filled up to a longer one
        map_ = found.T.unflatten(1, grid_of(len(found), grid))[None]
        self._sums += F.interpolate(map_, size=self.size, mode="bilinear", antialias=True)[0]
