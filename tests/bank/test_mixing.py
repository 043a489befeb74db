"""Block weights, rows of a batch, and steps: each is the constant gate that one would set by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lorastyle.adapters import Adapter, BlockWeights, Difference
from lorastyle.bank import AdapterBank, attach
from lorastyle.bank.layers import GatedLayer
from lorastyle.errors import AdapterError
from tests.bank.adapters import random_adapter, same_bits


def call(unet: Any, samples: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(samples, unet.config.in_channels, 8, 8, generator=generator)
    text = torch.randn(samples, 77, unet.config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        return unet(latents, torch.full((samples,), 500), text, return_dict=False)[0]


def differ(a: Tensor, b: Tensor) -> bool:
    return not torch.allclose(a, b, atol=1e-4)


def test_a_row_per_sample_is_each_request_alone(unet: nn.Module, bank: AdapterBank) -> None:
    rows = [{"a0": 1.0, "a1": 0.0}, {"a0": 0.0, "a1": -0.7}, {"a0": {"unet": 0.4}, "a1": 0.5}]
    before = call(unet)
    with bank.rows(rows):
        together = call(unet)
    assert same_bits(call(unet), before)
    for i, row in enumerate(rows):
        with bank.scaled(row):
            torch.testing.assert_close(together[i], call(unet)[i], atol=1e-5, rtol=1e-5)
        with bank.scaled(rows[i - 1]):
            assert differ(together[i], call(unet)[i])


def test_what_no_row_uses_is_not_stacked(unet: nn.Module, bank: AdapterBank) -> None:
    with bank.rows([{"a0": 0.0, "a1": 1.0}, {"a0": 0.0, "a1": 0.2}]):
        assert {layer.rank for layer in unet.modules() if isinstance(layer, GatedLayer)} == {3}
    assert {layer.rank for layer in unet.modules() if isinstance(layer, GatedLayer)} == {7}


def test_rows_are_checked_and_not_nested(unet: nn.Module, bank: AdapterBank) -> None:
    before = call(unet)
    for rows in ([], [{"a2": 1.0}], [{"a0": float("nan")}]):
        with pytest.raises(AdapterError), bank.rows(rows):
            pass
    with bank.rows([{"a0": 1.0}] * 3):
        with pytest.raises(AdapterError, match="leave it"):
            bank.set_scales({"a0": 0.5})
        with pytest.raises(AdapterError, match="another rows"), bank.rows([{}]):
            pass
    assert same_bits(call(unet), before)


def test_what_is_added_to_weights_has_one_scale_for_the_batch(unet: Any, bank: AdapterBank) -> None:
    path = "mid_block.attentions.0.proj_in"
    shape = unet.get_submodule(path).base.weight.shape
    whole = Adapter("whole", {}, dense={"unet": {path: Difference(weight=torch.full(shape, 0.5))}})
    bank.add(whole, scale=0.0)
    before = call(unet, 2)
    with pytest.raises(AdapterError, match="one by one"), bank.rows([{"whole": 1.0}, {"whole": 0.0}]):
        pass
    assert same_bits(call(unet, 2), before)
    with bank.rows([{"whole": 1.0, "a0": 0.0}, {"whole": 1.0}]):
        assert differ(call(unet, 2), before)
    assert same_bits(call(unet, 2), before)


def test_a_step_multiplies_scales_and_stacks_nothing_anew(unet: nn.Module, bank: AdapterBank) -> None:
    bank.set_scales({"a0": 0.8, "a1": 0.5})
    for factors, scales in (
        ({"a0": 0.5}, {"a0": 0.4}),
        ({"a0": 0.0}, {"a0": 0.0}),
        ({"a0": 0.0, "a1": 0.0}, {"a0": 0.0, "a1": 0.0}),
        ({"a1": -2.0}, {"a1": -1.0}),
    ):
        stacks = [layer.down for layer in unet.modules() if isinstance(layer, GatedLayer)]
        bank.set_step_factors(factors)
        stepped = call(unet)
        now = [layer.down for layer in unet.modules() if isinstance(layer, GatedLayer)]
        assert all(a is b for a, b in zip(stacks, now, strict=True))
        bank.set_step_factors({})
        with bank.scaled(scales):
            torch.testing.assert_close(stepped, call(unet), atol=1e-5, rtol=1e-5)
        assert differ(stepped, call(unet))
    with pytest.raises(AdapterError, match="a0"):
        bank.set_step_factors({"a9": 1.0})


def test_a_step_chooses_module_by_module(unet: nn.Module, bank: AdapterBank) -> None:
    path = "mid_block.attentions.0"
    bank.set_scales({"a0": 0.8, "a1": 0.5})
    before, modules = call(unet), [name for name, _ in unet.named_modules() if name.startswith(path)]
    stacks = [layer.down for layer in unet.modules() if isinstance(layer, GatedLayer)]
    bank.set_step_factors(
        {"a1": 2.0}, {"a0": {("unet", name.replace(".base", "")): 0.25 for name in modules}}
    )
    chosen = call(unet)
    now = [layer.down for layer in unet.modules() if isinstance(layer, GatedLayer)]
    assert all(a is b for a, b in zip(stacks, now, strict=True))
    with bank.rows([{}, {}, {"a0": 0.0}]):
        torch.testing.assert_close(call(unet)[:2], chosen[:2], atol=1e-5, rtol=1e-5)
        assert differ(call(unet)[2], chosen[2])
    with bank.fused():
        torch.testing.assert_close(call(unet), chosen, atol=1e-4, rtol=1e-4)
    bank.set_step_factors({})
    assert same_bits(call(unet), before)
    with bank.scaled({"a1": 1.0}):
        assert differ(call(unet), chosen)
        bank.set_block_weights({"a0": BlockWeights({}, paths={f"unet.{path}": 0.25})})
        torch.testing.assert_close(call(unet), chosen, atol=1e-5, rtol=1e-5)
    for wrong in ({"a9": {("unet", path): 1.0}}, {"a0": {("unet", path): float("nan")}}):
        with pytest.raises(AdapterError):
            bank.set_step_factors({}, wrong)


def test_all_off_at_a_step_is_the_base_to_the_bit(unet: nn.Module, bank: AdapterBank) -> None:
    with bank.disabled():
        bare = call(unet)
    bank.set_step_factors({"a0": 0.0, "a1": 0.0})
    assert same_bits(call(unet), bare)
    bank.set_step_factors({})
    assert not same_bits(call(unet), bare)


@pytest.mark.parametrize(
    "text", ["IN:0,OUT:0.5,MID:-1", "mid_block:0.3,down_blocks.0.attentions:0", "BASE:2,IN00-IN02:0"]
)
def test_block_weights_are_an_adapter_weighed_by_hand(unet: nn.Module, text: str) -> None:
    blocks = BlockWeights.parse(text)
    adapter = random_adapter("a", {"unet": unet}, ["all"])
    weighed = {
        path: type(update)(update.down, update.up * blocks.at("unet", path), update.alpha)
        for path, update in adapter.components["unet"].items()
    }
    with attach(unet) as bank:
        bank.add(adapter, scale=0.7)
        whole = call(unet)
        bank.set_block_weights({"a": blocks})
        assert bank.block_weights == {"a": blocks}
        mine = call(unet)
        with bank.fused():
            fused = call(unet)
        bank.set_block_weights({"a": None})
        assert same_bits(call(unet), whole)
    with attach(unet) as bank:
        bank.add(Adapter("a", {"unet": weighed}), scale=0.7)
        torch.testing.assert_close(mine, call(unet), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fused, mine, atol=1e-5, rtol=1e-5)
    assert differ(mine, whole)


def test_a_block_weight_of_zero_costs_nothing(unet: nn.Module, bank: AdapterBank) -> None:
    bank.set_scales({"a1": 0.0})
    bank.set_block_weights({"a0": BlockWeights.parse("UNET:0,MID:1")})
    ranks = {path: layer.rank for path, layer in unet.named_modules() if isinstance(layer, GatedLayer)}
    assert {path.partition(".")[0] for path, rank in ranks.items() if rank} == {"mid_block"}


def test_block_weights_name_blocks_that_are_there(unet: nn.Module, bank: AdapterBank) -> None:
    before = call(unet)
    with pytest.raises(AdapterError, match=r"mid_blok.*mid_block"):
        bank.set_block_weights({"a1": BlockWeights.parse("MID:0"), "a0": BlockWeights.parse("mid_blok.x:0")})
    with pytest.raises(AdapterError, match="a0"):
        bank.set_block_weights({"a7": None})
    assert same_bits(call(unet), before) and not bank.block_weights


def test_gates_follow_the_model_to_another_dtype(unet: Any, bank: AdapterBank) -> None:
    unet.double()
    bank.set_scales({"a0": 0.25})
    gates = [layer.gate for layer in unet.modules() if isinstance(layer, GatedLayer)]
    assert all(gate is not None and gate.dtype == torch.float64 for gate in gates)
    assert {float(gate[0]) for gate in gates if gate is not None} == {0.25}
