"""When something goes wrong half-way: memory that runs out, a second bank, blocks inside blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from lorastyle.adapters import Adapter, LowRank
from lorastyle.bank import AdapterBank, adaptable_modules, attach
from lorastyle.bank.layers import gated
from lorastyle.errors import AdapterError, BaseMismatchError
from tests.bank.adapters import random_adapter, random_update, same_bits


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))


@pytest.fixture
def model() -> Iterator[nn.Sequential]:
    yield two_layers()


X = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))


def adapter(name: str, model: nn.Module, **settings: int) -> Adapter:
    return random_adapter(name, {"unet": model}, ["*"], **settings)


def failing_at(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `call`th concatenation finds no memory."""
    real, calls = torch.cat, iter(range(1, 100))

    def cat(*args: object, **settings: object) -> Tensor:
        if next(calls) == call:
            raise torch.OutOfMemoryError("full")
        return real(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "cat", cat)


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_an_adapter_that_finds_no_memory_leaves_the_others_as_they_were(
    model: nn.Sequential, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    bank = attach(model)
    bank.add(adapter("old", model))
    before, bare = model(X), two_layers()(X)
    with monkeypatch.context() as patch:
        failing_at(call, patch)
        with pytest.raises(torch.OutOfMemoryError):
            bank.add(adapter("new", model, rank=5, seed=1))
    assert bank.names == ("old",)
    assert same_bits(model(X), before) and not torch.allclose(before, bare)
    bank.add(adapter("new", model, rank=5, seed=1))
    assert not torch.allclose(model(X), before)


def test_scales_are_set_all_or_none(model: nn.Sequential, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = attach(model)
    bank.add(adapter("a", model), scale=0.0)
    before = model(X)
    with monkeypatch.context() as patch:
        failing_at(4, patch)  # in the second layer
        with pytest.raises(torch.OutOfMemoryError):
            bank.set_scales({"a": 1.0})
    assert bank.scales == {"a": {"unet": 0.0}} and same_bits(model(X), before)
    bank.set_scales({"a": 1.0})
    assert not torch.allclose(model(X), before)


def test_two_banks_do_not_share_a_model(model: nn.Sequential) -> None:
    first, second = attach(model), attach(model)
    first.create("one", {"unet": ["0"]}, rank=2)
    with pytest.raises(AdapterError, match="another bank's adapters"):
        second.create("two", {"unet": ["1"]}, rank=2)
    with pytest.raises(AdapterError, match="another bank's adapters"):
        second.add(adapter("two", model))
    assert all(p.requires_grad for p in first.parameters("one")) and second.names == ()
    first.detach()
    second.add(adapter("two", model))
    assert second.names == ("two",)


def test_disabled_cannot_be_fused_away(model: nn.Sequential) -> None:
    bank, plain = attach(model), two_layers()(X)
    bank.add(adapter("a", model))
    with bank.disabled():
        with pytest.raises(AdapterError, match="inside disabled"):
            bank.fuse()
        assert same_bits(model(X), plain)
    assert not bank.is_fused and not torch.allclose(model(X), plain)


def test_detaching_inside_disabled_leaves_an_empty_bank_that_works(model: nn.Sequential) -> None:
    bank, plain = attach(model), two_layers()(X)
    bank.add(adapter("a", model))
    bank.fuse()
    with bank.disabled():
        bank.detach()
    assert not bank.is_fused and same_bits(model(X), plain)
    bank.add(adapter("a", model))
    assert not torch.allclose(model(X), plain)


def test_scaled_puts_back_what_was_fused_inside(model: nn.Sequential) -> None:
    bank = attach(model)
    bank.add(adapter("a", model))
    before = model(X)
    with pytest.raises(ZeroDivisionError), bank.scaled({"a": 0.25}):
        bank.fuse()
        assert not torch.allclose(model(X), before)
        raise ZeroDivisionError
    assert bank.scales == {"a": {"unet": 1.0}} and bank.is_fused
    torch.testing.assert_close(model(X), before)


def test_fused_under_inference_mode_can_be_differentiated(model: nn.Sequential) -> None:
    bank = attach(model)
    bank.add(adapter("a", model))
    with torch.inference_mode():
        bank.fuse()
    x = X.clone().requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None and bool(x.grad.any())


def test_a_weight_that_is_computed_is_not_fused() -> None:
    layer = parametrizations.weight_norm(nn.Linear(8, 8))
    model = nn.Sequential(layer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    bank = attach(model)
    bank.add(
        Adapter(
            "a", {"unet": {"0": random_update(nn.Linear(8, 8), 2, 2.0, torch.Generator().manual_seed(0))}}
        )
    )
    with pytest.raises(AdapterError, match="parametrised"):
        bank.fuse()
    bank.detach()
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_attention_that_reads_the_weight_itself_is_no_target() -> None:
    attention = nn.MultiheadAttention(8, 2)
    assert "out_proj" not in adaptable_modules(attention)
    assert "0" in adaptable_modules(nn.Sequential(nn.Linear(8, 8)))


def test_an_offloaded_model_can_be_detached(model: nn.Sequential) -> None:
    from accelerate import cpu_offload

    bank, before = attach(model), list(model)
    weights = [layer.weight for layer in model]
    bank.add(adapter("a", model))
    bank.fuse()
    cpu_offload(model, torch.device("cpu"))
    bank.detach()
    assert not bank.is_fused and list(model) == before
    assert all(weight.device.type == "cpu" for weight in weights), "the base's own are not thrown away"


def test_what_overflows_in_float16_is_drawn_all_the_same(model: nn.Sequential) -> None:
    update = adapter("a", model).components["unet"]["0"]
    extreme = LowRank(update.down * 1e-6, update.up * 1e6, update.alpha)
    wanted = two_layers()
    with torch.no_grad():
        next(wanted.parameters()).add_(extreme.delta())
    model.half()
    bank = attach(model)
    bank.add(Adapter("a", {"unet": {"0": extreme}}))
    drawn = model(X.half()).float()
    torch.testing.assert_close(drawn, wanted(X), atol=0.1, rtol=0.02)
    assert not torch.allclose(drawn, two_layers()(X), atol=0.1)


@pytest.mark.parametrize(("down_by", "up_by"), [(1e-6, 1e6), (1e4, 1e-8), (1.0, 1.0)])
def test_factors_keep_their_product_beside_float16(down_by: float, up_by: float) -> None:
    """Neither overflow nor underflow takes away what an adapter does."""
    base = nn.Linear(8, 8)
    update = random_update(base, 2, 2.0, torch.Generator().manual_seed(0))
    extreme = LowRank(update.down * down_by, update.up * up_by, update.alpha)
    layer = gated(base.half())
    layer.stack([extreme])
    assert layer.up is not None and layer.down is not None
    error = layer.up.float() @ layer.down.float() - extreme.delta()
    assert float(error.norm()) < 0.01 * float(extreme.delta().norm())


@pytest.mark.parametrize("make", [lambda: nn.Linear(8, 8), lambda: nn.Conv2d(8, 8, 3, padding=1)])
def test_a_hook_keeps_what_the_base_answered(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    base = make()
    x = torch.randn(2, 8, 4, 4) if isinstance(base, nn.Conv2d) else torch.randn(2, 8)
    kept: list[Tensor] = []
    plain = base(x)
    base.register_forward_hook(lambda module, args, out: kept.append(out))  # type: ignore[misc]
    layer = gated(base)
    layer.stack([random_update(base, 2, 2.0, torch.Generator().manual_seed(0))])
    with torch.no_grad():
        out = layer(x)
    assert torch.equal(kept[0], plain) and not torch.allclose(out, plain)


def test_one_gate_per_sample_whatever_axes_the_tokens_have() -> None:
    torch.manual_seed(0)
    base = nn.Linear(8, 8)
    layer = gated(base)
    layer.stack([random_update(base, 2, 2.0, torch.Generator().manual_seed(0))])
    x = torch.randn(2, 5, 3, 8)
    layer.set_gate(torch.tensor([1.0, 0.0]).view(2, 1, 1).expand(2, 1, 2))
    changed = (layer(x) - base(x)).abs().amax((1, 2, 3))
    assert changed[0] > 0.1 and changed[1] == 0
    layer.set_gate(torch.ones(2, 15, 2))
    with pytest.raises(AdapterError, match=r"give it \(batch, 1, 2\)"):
        layer(x)


def test_called_by_name_as_the_base_can_be(model: nn.Sequential) -> None:
    attach(model).add(adapter("a", model))
    assert torch.equal(model[0](input=X), model[0](X))


@pytest.mark.parametrize("path", ["", "0.base", "0.nothing"])
def test_there_is_no_place_inside_a_layer(model: nn.Sequential, path: str) -> None:
    bank = attach(model)
    bank.add(adapter("a", model))
    update = adapter("b", model).components["unet"]["0"]
    with pytest.raises(BaseMismatchError, match="does not exist"):
        bank.add(Adapter("b", {"unet": {path: update}}))
    bank.detach()
    assert [type(part) for part in model] == [nn.Linear, nn.Linear]


def test_a_module_that_two_components_share_is_trained_once() -> None:
    shared = nn.Linear(8, 8)
    bank = AdapterBank({"unet": nn.Sequential(shared), "text_encoder": nn.Sequential(shared)})
    with pytest.raises(AdapterError, match="one shared module twice"):
        bank.create("a", {"unet": ["0"], "text_encoder": ["0"]}, rank=2)
    assert bank.names == () and shared.weight.requires_grad


def test_a_module_that_was_replaced_meanwhile_stays(model: nn.Sequential) -> None:
    bank, other = attach(model), nn.Linear(8, 8)
    bank.add(adapter("a", model))
    model[0] = other
    bank.detach()
    assert model[0] is other and type(model[1]) is nn.Linear


@pytest.mark.parametrize("scale", [10**400, 1e300, float("nan"), "1"])
def test_a_scale_that_a_gate_cannot_hold_is_refused(model: nn.Sequential, scale: object) -> None:
    bank = attach(model)
    bank.add(adapter("a", model))
    with pytest.raises(AdapterError, match="finite number"):
        bank.set_scales({"a": scale})  # type: ignore[dict-item]
    assert bank.scales == {"a": {"unet": 1.0}}


def test_scaled_by_a_number_of_numpys(model: nn.Sequential) -> None:
    import numpy as np

    bank = attach(model)
    bank.add(adapter("a", model), scale=np.float32(0.5))  # type: ignore[arg-type]
    assert bank.scales == {"a": {"unet": 0.5}}


def test_a_copy_that_no_bank_would_know_is_refused(model: nn.Sequential) -> None:
    bank = attach(model)
    bank.add(adapter("a", model))
    with pytest.raises(AdapterError, match=r"detach\(\) the bank, copy the model"):
        deepcopy(model)
    bank.detach()
    copied = deepcopy(model)
    assert torch.equal(copied(X), model(X)) and copied[0] is not model[0]
    attach(copied).add(adapter("a", copied))
    assert not torch.equal(copied(X), model(X))
