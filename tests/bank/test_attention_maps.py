"""Maps of words, against the probabilities that diffusers' own attention works with."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F

from lorastyle.bank import AdapterBank, AttentionMaps
from lorastyle.bank.cross_attention import is_cross_attention
from tests.bank.adapters import same_bits

GRID = (8, 16)


def inputs(unet: Any, samples: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(samples, unet.config.in_channels, *GRID, generator=generator)
    return latents, torch.randn(samples, 77, unet.config.cross_attention_dim, generator=generator)


def call(unet: Any, latents: Tensor, text: Tensor) -> Tensor:
    with torch.no_grad():
        return unet(latents, torch.full((len(latents),), 500), text, return_dict=False)[0]


def by_hand(unet: Any, latents: Tensor, text: Tensor, tokens: Tensor) -> Tensor:
    """The sum over layers of what diffusers' plain processor attends to these tokens, for the last sample."""
    total = torch.zeros(GRID)

    for module in unet.modules():
        if is_cross_attention(module):
            own = module.get_attention_scores

            def scores(*given: Any, own: Any = own, heads: int = module.heads, **more: Any) -> Tensor:
                found: Tensor = own(*given, **more)
                nonlocal total
                seen = found.unflatten(0, (-1, heads))[-1].mean(0)[:, tokens.bool()].sum(1)
                width = int((2 * len(seen)) ** 0.5)
                grid = seen.reshape(1, 1, width // 2, width)
                total = total + F.interpolate(grid, size=GRID, mode="bilinear", antialias=True)[0, 0]
                return found

            module.set_processor(AttnProcessor())
            module.get_attention_scores = scores
    call(unet, latents, text)
    return total


def test_as_the_probabilities_say(unet: Any, bank: AdapterBank) -> None:
    latents, text = inputs(unet)
    cat, dog = torch.zeros(77), torch.zeros(70)  # a prompt may be filled up, for a longer negative
    cat[2:4], dog[5] = 1, 1
    before = call(unet, latents, text)
    maps = AttentionMaps({"cat": cat[:70], "dog": dog}, GRID)
    with maps.watching(unet, GRID):
        assert same_bits(call(unet, latents, text), before)
    assert all("forward" not in module.__dict__ for module in unet.modules() if is_cross_attention(module))
    expected = by_hand(unet, latents, text, cat)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    torch.testing.assert_close(maps.maps["cat"], expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(maps.maps["dog"], expected, atol=0.1)
    other = AttentionMaps({"cat": cat}, GRID)
    with other.watching(unet, GRID):
        call(unet, latents[:1], text[:1])  # the sample that was not watched
    assert not torch.allclose(other.maps["cat"], expected, atol=0.1)


def test_calls_add_up_whatever_their_size(unet: nn.Module) -> None:
    latents, text = inputs(unet)
    cat = torch.zeros(77)
    cat[3] = 1
    once, twice = (AttentionMaps({"cat": cat}, GRID) for _ in range(2))
    with once.watching(unet, GRID), twice.watching(unet, GRID):
        call(unet, latents, text)
    large = F.interpolate(latents, scale_factor=2.0)
    with twice.watching(unet, (16, 32)):
        call(unet, large, text)
    assert twice.maps["cat"].shape == GRID
    assert not torch.allclose(once.maps["cat"], twice.maps["cat"], atol=1e-3)
