"""Updates that are not low rank: in the weights while they are resident, and gone without a trace."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from lorastyle.adapters import IA3, Adapter, Difference, DoRA, Kronecker, LowRank, Update
from lorastyle.bank import AdapterBank, GatedLinear
from lorastyle.errors import AdapterError, BaseMismatchError
from tests.bank.adapters import same_bits


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lin = nn.Linear(6, 8)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        return (
            self.norm(self.lin(x))
            + self.conv(x.repeat(1, 2)[:, :9].reshape(-1, 1, 3, 3).repeat(1, 3, 1, 1)).mean()
        )


X = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))


def low(alpha: float = 2.0, seed: int = 2) -> LowRank:
    random = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(2, 6, generator=random), torch.randn(8, 2, generator=random), alpha)


def lokr(seed: int = 3) -> Update:
    random = torch.Generator().manual_seed(seed)
    parts = {"w1": torch.randn(2, 2, generator=random), "w2": torch.randn(4, 3, generator=random)}
    return Kronecker(parts=parts, alpha=1.0)


def dora() -> Update:
    return DoRA(inside=low(), magnitude=torch.linspace(0.5, 2, 8), axis=0)


def mixed(name: str = "mixed") -> Adapter:
    """Low rank and a norm, a convolution's full difference with a bias, and DoRA."""
    dense: Mapping[str, Update] = {
        "conv": Difference(weight=torch.ones(4, 3, 3, 3), bias=torch.ones(4)),
        "norm": Difference(weight=torch.full((8,), 0.5), bias=torch.full((8,), 0.25)),
    }
    return Adapter(name, {"unet": {"lin": low()}}, {}, {"unet": dense})


def only(name: str, **updates: Update) -> Adapter:
    return Adapter(name, {}, {}, {"unet": updates})


def bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def unchanged(model: nn.Module, before: Mapping[str, Tensor]) -> bool:
    now = model.state_dict()
    return now.keys() == before.keys() and all(same_bits(now[k], before[k]) for k in now)


@pytest.fixture
def model() -> nn.Module:
    return Model()


@pytest.fixture
def bank(model: nn.Module) -> AdapterBank:
    return AdapterBank({"unet": model})


def weight(model: nn.Module) -> Tensor:
    module = model.get_submodule("lin")
    found = (module.base if isinstance(module, GatedLinear) else module).weight
    assert isinstance(found, Tensor)
    return found.detach()


@pytest.mark.parametrize("update", [lokr(), dora(), IA3(weight=torch.ones(6), on_input=True)])
@pytest.mark.parametrize("scale", [1.0, 0.5, -2.0])
def test_the_weight_is_interpolated(
    model: nn.Module, bank: AdapterBank, update: Update, scale: float
) -> None:
    before, own = bits(model), model.get_submodule("lin").weight
    delta = update.delta(weight(model))
    assert delta is not None and float(delta.abs().max()) > 0.1
    expected = weight(model) + scale * delta
    bank.add(only("a", lin=update), scale=scale)
    assert torch.allclose(weight(model), expected, atol=1e-6)
    bank.set_scales({"a": 0.0})
    assert model.get_submodule("lin").weight is own
    bank.set_scales({"a": scale})
    assert torch.allclose(weight(model), expected, atol=1e-6)
    bank.remove("a")
    assert model.get_submodule("lin").weight is own and unchanged(model, before)


def test_several_are_each_computed_from_the_original(model: nn.Module, bank: AdapterBank) -> None:
    original = weight(model).clone()
    parts = [update.delta(original) for update in (dora(), lokr())]
    assert parts[0] is not None and parts[1] is not None
    bank.add(only("dora", lin=dora()))
    bank.add(only("lokr", lin=lokr()), scale=0.5)
    assert torch.allclose(weight(model), original + parts[0] + 0.5 * parts[1], atol=1e-6)
    one_after_another = original + 0.5 * parts[1]
    second = dora().delta(one_after_another)
    assert second is not None
    assert not torch.allclose(weight(model), one_after_another + second, atol=1e-3)
    bank.remove("dora")
    assert torch.allclose(weight(model), one_after_another, atol=1e-6)


def test_beside_low_rank_which_stays_gated(model: nn.Module, bank: AdapterBank) -> None:
    before = bits(model)
    plain = model(X)
    bank.add(mixed())
    bank.add(only("lokr", lin=lokr()), scale=0.5)
    assert isinstance(model.get_submodule("lin"), GatedLinear)
    gated = model(X)
    assert not torch.allclose(gated, plain, atol=1e-2)
    delta = lokr().delta(before["lin.weight"])
    assert delta is not None
    by_hand = Model()
    with torch.no_grad():
        by_hand.lin.weight += low().delta() + 0.5 * delta
        changed = (*by_hand.conv.parameters(), *by_hand.norm.parameters())
        for parameter, more in zip(changed, (1, 1, 0.5, 0.25), strict=True):
            parameter += more
    assert torch.allclose(gated, by_hand(X), atol=1e-5)
    with bank.fused():
        assert torch.allclose(model(X), gated, atol=1e-5)
        assert torch.allclose(weight(model), by_hand.lin.weight, atol=1e-6)
    assert torch.equal(model(X), gated)
    with bank.disabled():
        assert same_bits(model(X), plain) and unchanged(model, before)
    assert torch.equal(model(X), gated)
    with bank.scaled({"mixed": 0.0, "lokr": 0.0}):
        assert same_bits(model(X), plain)
    bank.detach()
    assert unchanged(model, before) and same_bits(model(X), plain)


def test_half_precision_is_rounded_once(bank: AdapterBank, model: nn.Module) -> None:
    model.bfloat16()
    original = weight(model).clone()
    bank.add(only("a", lin=lokr()))
    bank.add(Adapter("b", {"unet": {"lin": low()}}))
    delta = lokr().delta(original)
    assert delta is not None
    with bank.fused():
        exact = original.float() + delta + low().delta()
        assert same_bits(weight(model), exact.bfloat16())
        twice = ((original.float() + delta).bfloat16().float() + low().delta()).bfloat16()
        assert not same_bits(weight(model), twice)
    bank.detach()
    assert same_bits(weight(model), original)


def test_the_original_follows_the_model_to_another_dtype(bank: AdapterBank, model: nn.Module) -> None:
    bank.add(only("a", lin=lokr()))
    model.double()
    bank.detach()
    assert weight(model).dtype == torch.float64
    assert torch.allclose(weight(model).float(), Model().lin.weight)


def test_export_and_training_beside(model: nn.Module, bank: AdapterBank) -> None:
    bank.add(mixed())
    out = bank.export("mixed")
    assert out.dense["unet"].keys() == {"conv", "norm"} and out.components["unet"].keys() == {"lin"}
    stand_in = model.get_submodule("norm").weight
    bank.create("new", {"unet": ["lin"]}, rank=2)
    assert not any(p.requires_grad for n, p in model.named_parameters() if "trainable" not in n)
    bank.remove("mixed")
    norm = model.get_submodule("norm").weight
    assert norm is not stand_in and isinstance(norm, Tensor) and not norm.requires_grad
    bank.remove("new")
    assert norm.requires_grad


def test_what_does_not_fit_changes_nothing(model: nn.Module, bank: AdapterBank) -> None:
    before = bits(model)
    wrong: Mapping[str, Update] = {
        "a LoKr of another size than": lokr(),
        "has no bias": Difference(bias=torch.ones(4)),
        "a bias of 5": Difference(bias=torch.ones(5)),
    }
    model.lin.bias = None  # pyright: ignore
    del before["lin.bias"]
    places = {"a LoKr of another size than": "conv", "has no bias": "lin", "a bias of 5": "conv"}
    for why, update in wrong.items():
        with pytest.raises(BaseMismatchError, match=why):
            bank.add(only("a", norm=Difference(weight=torch.ones(8)), **{places[why]: update}))
    with pytest.raises(BaseMismatchError, match=r"unet.nowhere does not exist"):
        bank.add(only("a", nowhere=lokr()))
    model.lin.weight = nn.Parameter(torch.ones(8, 6, dtype=torch.int8), requires_grad=False)  # pyright: ignore
    before["lin.weight"] = torch.ones(8, 6, dtype=torch.int8)
    with pytest.raises(AdapterError, match=r"added to the weights, .*quantised.* in 16 or 32 bits"):
        bank.add(only("a", lin=lokr()))
    assert bank.names == ()
    assert all(torch.equal(model.state_dict()[k], before[k]) for k in before)
