"""torch.compile over a bank: one graph, which scales and adapters that come and go do not make anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from lorastyle.adapters import LowRank
from lorastyle.bank import attach, layers
from tests.bank.adapters import random_adapter
from tests.tiny import tiny_pipeline

COMING = (4, 4, 8, 16, 4, 2, 32, 8, 3, 4, 5, 6, 12, 7, 16, 24, 4, 9, 10, 4)  # ranks


@pytest.fixture
def unet() -> Iterator[nn.Module]:
    """The middle of one: convolutions, attention and feed-forward, in a fifth of the compiler's time."""
    torch._dynamo.reset()  # pyright: ignore[reportPrivateUsage]
    yield tiny_pipeline().unet.mid_block.requires_grad_(False)
    torch._dynamo.reset()  # pyright: ignore[reportPrivateUsage]


def call(unet: Callable[..., Any]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    hidden, time = torch.randn(2, 32, 4, 4, generator=generator), torch.randn(2, 64, generator=generator)
    text = torch.randn(2, 8, 16, generator=generator)
    with torch.no_grad():
        return unet(hidden, time, encoder_hidden_states=text)


def test_twenty_adapters_come_and_go_in_two_graphs(unet: nn.Module) -> None:
    """The second has the rank as a variable."""
    made = CompileCounter()
    adapters = [random_adapter(f"a{i}", {"unet": unet}, rank=r, seed=i) for i, r in enumerate(COMING)]
    with attach(unet) as bank:
        bank.add(adapters[0])
        compiled = torch.compile(unet, backend=made, fullgraph=True)
        torch.testing.assert_close(call(compiled), call(unet))
        assert made.frame_count == 1
        former = call(unet)
        bank.set_scales({"a0": -0.4})
        torch.testing.assert_close(call(compiled), call(unet))
        assert made.frame_count == 1 and not torch.equal(former, call(compiled))
        for before, adapter in pairwise(adapters):
            bank.add(adapter)
            bank.remove(before.name)
            torch.testing.assert_close(call(compiled), call(unet))
        assert made.frame_count == 2
        bank.set_scales({adapters[-1].name: 0.0})  # a layer that computes nothing is another graph
        torch.testing.assert_close(call(compiled), call(unet))
        assert made.frame_count == 3


def test_a_call_asks_nothing_that_older_compilers_cannot_follow(
    unet: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch 2.11 broke its graph at this question, in each layer."""

    def asked(*_: object) -> bool:
        raise AssertionError("asked in a call")

    with attach(unet) as bank:
        bank.add(random_adapter("a", {"unet": unet}))
        monkeypatch.setattr(torch.amp, "is_autocast_available", asked)
        monkeypatch.setattr(torch.amp.autocast_mode, "is_autocast_available", asked)
        call(unet)
        with pytest.raises(AssertionError, match="asked in a call"):
            torch.autocast("cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_are_of_autocasts_dtype_where_it_is_on(dtype: torch.dtype) -> None:
    seen: list[torch.dtype] = []
    layer = layers.gated(nn.Linear(4, 4))
    layer.stack([LowRank(torch.ones(2, 4), torch.ones(4, 2), 2.0)])
    inner = layer._inner  # pyright: ignore[reportPrivateUsage]

    def watched(x: Tensor, down: Tensor) -> Tensor:
        seen.append(down.dtype)
        return inner(x, down)

    layer._inner = watched  # pyright: ignore[reportPrivateUsage]
    with torch.no_grad():
        layer(torch.ones(1, 4))
        with torch.autocast("cpu", dtype):
            layer(torch.ones(1, 4))
    assert seen == [torch.float32, dtype]
