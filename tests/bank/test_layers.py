"""The gated layer against the plain weight it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lorastyle.adapters import LowRank
from lorastyle.bank import AdapterBank, GatedLayer
from lorastyle.bank.layers import Trainable, factor_shapes, gated
from lorastyle.errors import AdapterError
from tests.bank.adapters import random_adapter, random_update, same_bits

BASES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(12, 7),
    "linear without bias": lambda: nn.Linear(12, 7, bias=False),
    "conv 1x1": lambda: nn.Conv2d(12, 7, 1),
    "conv 3x3 strided": lambda: nn.Conv2d(12, 7, 3, stride=2, padding=1),
    "conv 3x3 dilated, reflecting": lambda: nn.Conv2d(
        12, 7, 3, padding=2, dilation=2, padding_mode="reflect"
    ),
}


@pytest.fixture(params=list(BASES))
def base(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return BASES[request.param]()


def an_input(base: nn.Module, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, 12, 8, 8) if isinstance(base, nn.Conv2d) else (batch, 5, 12)
    return torch.randn(shape, generator=generator)


def updates(base: nn.Module, count: int = 3) -> list[LowRank]:
    generator = torch.Generator().manual_seed(2)
    return [random_update(base, rank=2 + i, alpha=1.5 + i, generator=generator) for i in range(count)]


def plain(base: nn.Module, weighted: list[tuple[LowRank, float]], x: Tensor) -> Tensor:
    """The output of a plain module whose weight carries the updates, loaded strictly."""
    state = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    for update, scale in weighted:
        state["weight"] += (
            scale * update.alpha / update.rank * torch.einsum("or...,ri...->oi...", update.up, update.down)
        )
    fresh = BASES[next(n for n, make in BASES.items() if repr(make()) == repr(base))]()
    fresh.load_state_dict(state, strict=True)
    return fresh(x)


@pytest.mark.parametrize("grad", [False, True])
def test_a_stack_is_the_sum_of_its_updates(base: nn.Module, grad: bool) -> None:
    x, stack, scales = an_input(base), updates(base), [0.7, -1.2, 2.0]
    layer = gated(base)
    layer.stack(stack)
    layer.set_gate(torch.cat([torch.full((u.rank,), s) for u, s in zip(stack, scales, strict=True)]))
    with torch.set_grad_enabled(grad):
        out = layer(x)
    torch.testing.assert_close(out, plain(base, list(zip(stack, scales, strict=True)), x), atol=1e-5, rtol=0)
    assert (out - base(x)).abs().max() > 0.1


def test_a_gate_per_sample_is_one_run_per_sample(base: nn.Module) -> None:
    x, stack = an_input(base), updates(base)
    layer = gated(base)
    layer.stack(stack)
    rows = torch.randn(3, 1, layer.rank, generator=torch.Generator().manual_seed(3))
    layer.set_gate(rows)
    together = layer(x)
    for i, row in enumerate(rows):
        layer.set_gate(row[0])
        torch.testing.assert_close(together[i : i + 1], layer(x[i : i + 1]), atol=1e-5, rtol=0)
    assert (together - layer(x)).abs().max() > 0.1


def test_a_gate_per_token_confines_an_adapter_to_a_region(base: nn.Module) -> None:
    x, stack = an_input(base), updates(base)
    layer = gated(base)
    layer.stack(stack)
    full = layer(x)
    off = base(x)
    tokens = off[0, 0].numel() if isinstance(base, nn.Conv2d) else off.shape[1]
    region = torch.arange(tokens) < tokens // 2
    layer.set_gate(region.float()[None, :, None].expand(3, tokens, layer.rank))
    out = layer(x)
    if isinstance(base, nn.Conv2d):
        out, full, off = (t.flatten(2).transpose(1, 2) for t in (out, full, off))
    torch.testing.assert_close(out[:, region], full[:, region], atol=1e-5, rtol=0)
    torch.testing.assert_close(out[:, ~region], off[:, ~region], atol=1e-6, rtol=0)
    assert (full - off)[:, ~region].abs().max() > 0.1


def test_a_zero_gate_calls_the_base_and_changes_no_bit(base: nn.Module) -> None:
    x = an_input(base)
    layer = gated(base)
    layer.stack([LowRank(torch.full_like(u.down, torch.inf), u.up, u.alpha) for u in updates(base)])
    layer.set_gate(torch.zeros(layer.rank))
    assert same_bits(layer(x), base(x))  # a product with these factors would be NaN
    layer.set_gate(torch.ones(layer.rank))
    assert not same_bits(layer(x), base(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_adapter_keeps_even_negative_zeros(base: nn.Module, dtype: torch.dtype) -> None:
    def to_negative(module: nn.Module, args: object, out: Tensor) -> Tensor:
        return torch.where(out.abs() < out.abs().mean(), -torch.zeros_like(out), -out.abs())

    base.register_forward_hook(to_negative)
    base.to(dtype)
    x = an_input(base).to(dtype)
    layer = gated(base)
    down, up = factor_shapes(base, 4)
    seeded = torch.Generator().manual_seed(0)
    layer.set_trainable(
        Trainable(down, up, scale=0.5, dropout=0.0, generator=seeded, device=torch.device("cpu"))
    )
    expected = base(x)
    assert (expected == 0).any() and torch.signbit(expected).all()
    assert same_bits(layer(x), expected)
    with torch.no_grad():
        layer.get_parameter("trainable.up").fill_(0.1)
    assert not same_bits(layer(x), expected)


def test_a_gate_of_the_wrong_shape_is_refused() -> None:
    layer = gated(nn.Linear(4, 4))
    layer.stack([LowRank(torch.ones(3, 4), torch.ones(4, 3), 3.0)])
    for shape in [(2,), (3, 3), (2, 1, 2)]:
        with pytest.raises(AdapterError, match="does not fit a layer of rank 3"):
            layer.set_gate(torch.ones(shape))


def test_a_vector_per_sample_takes_a_gate_per_sample_only() -> None:
    base = nn.Linear(4, 4)
    layer = gated(base)
    layer.stack([LowRank(torch.ones(3, 4), torch.ones(4, 3), 3.0)])
    layer.set_gate(torch.tensor([1.0, 0.0])[:, None, None].expand(2, 1, 3))
    out = layer(x := torch.ones(2, 4))
    assert torch.equal(out[1], base(x)[1]) and (out[0] - base(x)[0]).abs().max() > 1
    layer.set_gate(torch.ones(2, 5, 3))
    with pytest.raises(AdapterError, match="has no tokens"):
        layer(x)


def test_from_outside_a_layer_is_its_base() -> None:
    model: Any = nn.Sequential(nn.Linear(4, 6), nn.Conv2d(6, 2, 3, stride=2, padding=1))
    linear, conv = model[0], model[1]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bank = AdapterBank({"unet": model})
    bank.add(random_adapter("one", {"unet": model}, ["*"]))
    bank.create("two", {"unet": ["*"]}, rank=2)
    assert isinstance(model[0], GatedLayer)
    assert model[0].weight is linear.weight and model[0].bias is linear.bias
    assert (model[0].in_features, model[0].out_features) == (4, 6)
    assert (model[1].stride, model[1].kernel_size) == (conv.stride, conv.kernel_size)
    with pytest.raises(AttributeError):
        model[0].nothing  # noqa: B018
    attached = model.state_dict()
    assert list(attached) == list(before)
    assert all(torch.equal(attached[name], before[name]) for name in before)
    missing, unexpected = model.load_state_dict({n: t + 1 for n, t in before.items()}, strict=True)
    assert not missing and not unexpected
    assert torch.equal(linear.weight, before["0.weight"] + 1)
    with pytest.raises(RuntimeError, match="Unexpected"):
        model.load_state_dict({**before, "0.lora": torch.ones(1)}, strict=True)


def test_moves_take_the_stack_along_and_leave_the_trainable_in_float32() -> None:
    model: Any = nn.Sequential(nn.Linear(8, 8))
    bank = AdapterBank({"unet": model})
    bank.add(random_adapter("one", {"unet": model}, ["*"]))
    bank.create("two", {"unet": ["*"]}, rank=2)
    parameters = bank.parameters("two")
    bits = [p.detach().clone() for p in parameters]
    model.to(torch.bfloat16)
    assert model[0].down.dtype == model[0].gate.dtype == torch.bfloat16
    for now, before, bit in zip(bank.parameters("two"), parameters, bits, strict=True):
        assert now is before and now.dtype == torch.float32 and same_bits(now, bit)
    out = model(torch.ones(1, 8, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in parameters)


def test_dropout_is_for_training_only() -> None:
    model = nn.Sequential(nn.Linear(64, 8))
    bank = AdapterBank({"unet": model})
    bank.create("one", {"unet": ["*"]}, rank=4, dropout=0.5)
    with torch.no_grad():
        bank.parameters("one")[1].normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    model.train()
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
