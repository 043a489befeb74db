"""Layers of 8 and 4 bits: how close they are, and that a gradient goes through them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lorastyle.bank import attach
from lorastyle.bases import load_base, rounded_modes, weight_bytes
from lorastyle.bases.quantised import QuantisedLinear, bitsandbytes_functions, has_bitsandbytes, quantise
from lorastyle.errors import AdapterError, BaseError
from tests.bank.adapters import random_adapter, same_bits

BITS = [8, pytest.param(4, marks=pytest.mark.skipif(not has_bitsandbytes(), reason="needs bitsandbytes"))]
ERROR = {8: (0.002, 0.01), 4: (0.05, 0.12)}
"""Relative error of normal weights: 1/127 of the largest of a row, in steps; NF4's is 9%."""


def layer(bits: int, *, bias: bool = True) -> tuple[nn.Linear, QuantisedLinear]:
    torch.manual_seed(0)
    plain = nn.Linear(96, 80, bias=bias).requires_grad_(False)
    nn.init.normal_(plain.weight)
    return plain, QuantisedLinear(plain, bits)


X = torch.randn(2, 5, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_close_and_not_the_same(bits: int, bias: bool) -> None:
    plain, rounded = layer(bits, bias=bias)
    low, high = ERROR[bits]
    weight_error = (rounded.restored(torch.float32) - plain.weight).norm() / plain.weight.norm()
    assert low < float(weight_error) < high
    error = (rounded(X) - plain(X)).norm() / plain(X).norm()
    assert low < float(error) < high
    assert float(weight_bytes(rounded)) < (0.35 if bits == 8 else 0.25) * weight_bytes(plain)


@pytest.mark.parametrize("bits", BITS)
def test_it_computes_with_the_weights_that_it_restores(bits: int) -> None:
    """Exactly those: training and drawing are one function, and the gradient is its own."""
    plain, rounded = layer(bits)
    plain.weight.copy_(rounded.restored(torch.float32))
    x, y = X.clone().requires_grad_(), X.clone().requires_grad_()
    torch.testing.assert_close(rounded(x), plain(y), atol=1e-5, rtol=1e-5)
    assert same_bits(rounded.train()(x), rounded.eval()(x))
    with torch.no_grad():
        assert same_bits(rounded(x), rounded(X))
    rounded(x).square().sum().backward()
    plain(y).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad, atol=1e-4, rtol=1e-5)
    assert x.grad is not None and float(x.grad.norm()) > 1 and rounded.weight.grad is None


@pytest.mark.parametrize("bits", BITS)
def test_it_heeds_autocast(bits: int) -> None:
    plain, rounded = layer(bits)
    with torch.autocast("cpu", torch.bfloat16):
        out, expected = rounded(X), plain(X)
    assert out.dtype == expected.dtype == torch.bfloat16
    assert float((out - expected).norm() / expected.norm()) < ERROR[bits][1]
    assert rounded.bias.dtype == torch.float32, "a call changes no weight"


@pytest.mark.parametrize("bits", BITS)
def test_a_gradient_keeps_no_weights(bits: int) -> None:
    """Else training would hold what drawing saves."""
    _, rounded = layer(bits)
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        rounded(X.clone().requires_grad_()).sum()
    assert max(kept, default=0) < rounded.in_features * rounded.out_features


@pytest.mark.parametrize("bits", BITS)
def test_scales_stay_whole_when_the_model_is_cast(bits: int) -> None:
    _, rounded = layer(bits)
    before = rounded.restored(torch.float32)
    rounded.to(torch.bfloat16)
    assert rounded.scales.dtype == torch.float32 and same_bits(rounded.restored(torch.float32), before)
    assert rounded.bias.dtype == torch.bfloat16


@pytest.mark.parametrize("bits", BITS)
def test_adapters_beside_it_stay_exact(bits: int) -> None:
    model = nn.Sequential(layer(bits)[0])
    assert quantise(model, bits) == 1 and quantise(model, bits) == 0, "what is rounded is left alone"
    plain = model(X)
    adapter = random_adapter("one", {"unet": model}, ["*"])
    with attach(model) as bank:
        bank.add(adapter)
        delta = X @ adapter.components["unet"]["0"].delta().T
        torch.testing.assert_close(model(X), plain + delta)
        assert float(delta.abs().max()) > 0.1
        with pytest.raises(AdapterError, match="its weights are quantised"):
            bank.fuse()
    assert same_bits(model(X), plain)


def test_a_row_of_zeros_is_restored_as_zeros() -> None:
    plain = nn.Linear(8, 2, bias=False).requires_grad_(False)
    plain.weight[0] = 0
    assert not QuantisedLinear(plain, 8)(torch.ones(1, 8))[0, 0].any()


def test_the_embedded_base_answers_nearly_the_same() -> None:
    """Measured: 0.6% in 8 bits, as much as bfloat16 costs; 8% in 4 bits."""
    limits = {"int8": (0.001, 0.015), "nf4": (0.03, 0.13)}
    base = load_base("embedded", device="cpu", dtype=torch.float32)
    noisy = torch.randn(2, base.latent_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    at = torch.tensor([300, 700])
    expected = base.predict(noisy, at, base.encode_prompts(["a cat", "a red apple"]))
    shapes = base.module_shapes()
    for mode in rounded_modes():
        rounded = load_base("embedded", device="cpu", dtype=torch.float32, memory=mode)
        answer = rounded.predict(noisy, at, rounded.encode_prompts(["a cat", "a red apple"]))
        low, high = limits[mode]
        assert low < float((answer - expected).norm() / expected.norm()) < high
        assert rounded.module_shapes() == shapes
        assert weight_bytes(rounded.pipe.unet) < weight_bytes(base.pipe.unet)
        assert not any(isinstance(m, QuantisedLinear) for m in rounded.pipe.vae.modules())


def test_withoutbitsandbytes_functions_4_bits_are_refused(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    bitsandbytes_functions.cache_clear()
    try:
        assert not has_bitsandbytes() and rounded_modes() == ("int8",)
        with pytest.raises(BaseError, match=r'pip install "bitsandbytes.*or choose "int8"'):
            load_base(str(saved), device="cpu", memory="nf4")
        assert load_base(str(saved), device="cpu", memory="int8").placement.mode.bits == 8
    finally:
        bitsandbytes_functions.cache_clear()
