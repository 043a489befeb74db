"""The plugin changes what depends on shapes, and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.other_processor import OtherProcessor

W = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
X = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))


def product(x: Tensor) -> Tensor:
    with OtherProcessor():
        return x @ W


def test_the_same_calculation_has_the_same_bits() -> None:
    assert torch.equal(product(X), product(X.clone()))


def test_other_shapes_have_other_bits_and_nearly_the_same_value() -> None:
    for other in (product(X[:2]), product(X[:1])):
        assert not torch.equal(other, product(X)[: len(other)])
        torch.testing.assert_close(other, product(X)[: len(other)], atol=1e-5, rtol=1e-5)
    assert not torch.equal(product(X), X @ W)


def test_what_adds_up_nothing_is_left_as_it_is() -> None:
    with OtherProcessor():
        assert torch.equal((X + 1)[:2], X[:2] + 1) and torch.equal(X.exp()[:2], X[:2].exp())


def test_low_precision_is_seldom_rounded_to_the_next_value() -> None:
    exact = X.bfloat16() @ W.bfloat16()
    with OtherProcessor():
        other = X.bfloat16() @ W.bfloat16()
    assert 0 < int((other != exact).sum()) < other.numel() // 2
    torch.testing.assert_close(other, exact, atol=0, rtol=2**-6)
