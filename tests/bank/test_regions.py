"""Adapters confined to parts of the picture: everywhere is no region, nowhere is the base."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lorastyle.adapters import Adapter, Difference
from lorastyle.bank import AdapterBank, attach
from lorastyle.bank.layers import GatedLayer
from lorastyle.bank.regions import grid_of
from lorastyle.errors import AdapterError
from tests.bank.adapters import random_adapter, same_bits

GRID = (8, 8)
EVERYWHERE, NOWHERE = torch.ones(GRID), torch.zeros(GRID)
LEFT = torch.zeros(GRID)
LEFT[:, :4] = 1


def words(unet: Any, seed: int = 1, samples: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 77, unet.config.cross_attention_dim, generator=generator)


def call(unet: Any, text: Tensor, grid: tuple[int, int] = GRID) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(len(text), unet.config.in_channels, *grid, generator=generator)
    with torch.no_grad():
        return unet(latents, torch.full((len(text),), 500), text, return_dict=False)[0]


def differ(a: Tensor, b: Tensor) -> bool:
    return not torch.allclose(a, b, atol=1e-4)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_field_of_ones_is_no_region(unet: nn.Module, bank: AdapterBank) -> None:
    mine, other = words(unet), words(unet, 2)
    whole = call(unet, mine)
    with bank.confined({"a0": EVERYWHERE}, [mine], GRID):
        close(call(unet, other), whole)
    with bank.confined({"a0": EVERYWHERE}, [other], GRID):
        assert differ(call(unet, mine), whole)
    assert same_bits(call(unet, mine), whole)


def test_a_field_of_zeros_is_the_adapter_off(unet: nn.Module, bank: AdapterBank) -> None:
    text = words(unet)
    whole = call(unet, text)
    with bank.scaled({"a0": 0.0}):
        without = call(unet, text)
    with bank.confined({"a0": NOWHERE}, [words(unet, 2)], GRID):
        close(call(unet, text), without)
        with bank.scaled({"a1": 0.0}):  # which stacks all anew
            assert differ(call(unet, text), without)
        close(call(unet, text), without)
    assert differ(whole, without)


def test_a_field_between_is_a_scale_where_there_are_no_words(unet: nn.Module) -> None:
    """Halves are a scale of a half; a conv or an attention query has no other notion of a field."""
    with attach(unet) as bank:
        bank.add(random_adapter("a", {"unet": unet}, ["*.attn1.*", "*.ff.*", "*.conv*"]))
        text = words(unet)
        with bank.scaled({"a": 0.5}):
            half = call(unet, text)
        with bank.confined({"a": EVERYWHERE / 2}, [text], GRID):
            close(call(unet, text), half)
        assert differ(call(unet, text), half)


def test_each_layer_is_changed_inside_the_field_only(unet: nn.Module, bank: AdapterBank) -> None:
    """Every layer's own output, told what it gets: outside it is the base's, inside the adapter's."""
    bank.remove("a1")
    text, seen = words(unet), dict[str, int]()
    own: dict[str, Tensor] = {}

    def compare(name: str, layer: GatedLayer) -> Any:
        def look(_: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
            with torch.no_grad():
                change = out - layer.base(given[0])
            per_place = change.abs().amax((0, 1)) if out.ndim == 4 else change.abs().amax((0, 2))
            if per_place.ndim == 1:
                side = int(per_place.numel() ** 0.5)
                if side * side != per_place.numel():
                    return  # words
                per_place = per_place.view(side, side)
            half = per_place.shape[1] // 2
            if half:
                assert per_place[:, half:].max() <= 1e-6, name
                assert per_place[:, :half].max() > 1e-4, name
                seen[name] = half
                own[name] = out

        return look

    layers = {n: m for n, m in unet.named_modules() if isinstance(m, GatedLayer)}
    hooks = [m.register_forward_hook(compare(n, m)) for n, m in layers.items() if "time" not in n]
    try:
        with bank.confined({"a0": LEFT}, [text], GRID):
            call(unet, text)
    finally:
        for hook in hooks:
            hook.remove()
    assert any("conv" in n for n in seen) and any("to_q" in n for n in seen) and any("ff" in n for n in seen)
    assert len(set(seen.values())) > 1  # on more than one grid


def test_two_adapters_side_by_side(unet: nn.Module, bank: AdapterBank) -> None:
    """Without anything that looks around, each half is what its own adapter draws."""
    for layer in unet.modules():
        if getattr(layer, "is_cross_attention", None) is False:  # self-attention looks around
            layer.forward = lambda hidden_states, *_, **__: torch.zeros_like(hidden_states)  # pyright: ignore
    attention: Any = next(m for n, m in unet.named_modules() if n.endswith("transformer_blocks.0"))
    x, text = torch.randn(2, 64, attention.norm1.normalized_shape[0]), [words(unet, i) for i in range(3)]

    def ask(text: Tensor) -> Tensor:
        with torch.no_grad():
            return attention(x, encoder_hidden_states=text)

    alone: list[Tensor] = []
    for name, reading in zip(("a0", "a1"), text[1:], strict=True):
        with bank.scaled({"a0": 0.0, "a1": 0.0, name: 1.0}):
            alone.append(ask(reading).unflatten(1, GRID))
    with bank.confined({"a0": LEFT, "a1": 1 - LEFT}, text[1:], GRID):
        both = ask(text[0]).unflatten(1, GRID)
    close(both[:, :, :4], alone[0][:, :, :4])
    close(both[:, :, 4:], alone[1][:, :, 4:])
    assert differ(both[:, :, :4], alone[1][:, :, :4])
    assert differ(both, ask(text[0]).unflatten(1, GRID))


def test_fields_may_be_set_anew_between_calls(unet: nn.Module, bank: AdapterBank) -> None:
    text = words(unet)
    whole = call(unet, text)
    with bank.confined({"a0": NOWHERE}, [text], GRID) as regions:
        assert differ(call(unet, text), whole)
        regions.set({"a0": EVERYWHERE})
        close(call(unet, text), whole)
        with pytest.raises(AdapterError):
            regions.set({"a1": EVERYWHERE})
        close(call(unet, text), whole)


@pytest.mark.parametrize("grid", [(8, 16), (24, 8), (9, 7)])
def test_grids_that_are_not_square(unet: nn.Module, bank: AdapterBank, grid: tuple[int, int]) -> None:
    text = words(unet)
    whole = call(unet, text, grid)
    with bank.confined({"a0": torch.ones(3, 5)}, [text], grid):
        close(call(unet, text, grid), whole)
    with bank.confined({"a0": torch.ones(3, 5).triu()}, [text], grid):
        assert differ(call(unet, text, grid), whole)


def test_what_wraps_attention_is_put_back(unet: nn.Module, bank: AdapterBank) -> None:
    module = next(m for m in unet.modules() if getattr(m, "is_cross_attention", False))
    own = module.forward
    text = words(unet)

    def wrapped(*given: Any, **more: Any) -> Tensor:  # as accelerate's hooks do
        return own(*given, **more)

    module.forward = wrapped
    with pytest.raises(KeyError), bank.confined({"a0": LEFT}, [text], GRID):
        assert module.forward is not wrapped
        raise KeyError
    assert module.forward is wrapped
    del module.forward
    with bank.confined({"a0": LEFT}, [text], GRID):
        pass
    assert "forward" not in module.__dict__


def test_what_cannot_be_confined_is_refused(unet: Any, bank: AdapterBank) -> None:
    text = words(unet)
    before = call(unet, text)
    wrong: list[tuple[dict[str, Tensor], list[Tensor], str]] = [
        ({"a9": LEFT}, [text], "a9"),
        ({}, [], "nothing"),
        ({"a0": LEFT}, [], "0 readings"),
        ({"a0": LEFT[0]}, [text], "height and width"),
        ({"a0": LEFT * 2}, [text], "from 0"),
        ({"a0": LEFT * float("nan")}, [text], "from 0"),
        ({"a0": torch.zeros(0, 4)}, [text], "height and width"),
    ]
    for fields, readings, why in wrong:
        with pytest.raises(AdapterError, match=why), bank.confined(fields, readings, GRID):
            raise AssertionError
    with bank.rows([{}]), pytest.raises(AdapterError, match="rows"):
        with bank.confined({"a0": LEFT}, [text], GRID):
            raise AssertionError
    with bank.confined({"a0": LEFT}, [text], GRID):
        with pytest.raises(AdapterError, match="confined"):
            bank.fuse()
        with pytest.raises(AdapterError, match="confined"), bank.confined({"a1": LEFT}, [text], GRID):
            raise AssertionError
    path = "mid_block.attentions.0.proj_in"
    shape = unet.get_submodule(path).base.weight.shape
    bank.add(Adapter("w", {}, dense={"unet": {path: Difference(weight=torch.ones(shape))}}), scale=0.0)
    with pytest.raises(AdapterError, match="low rank"), bank.confined({"w": LEFT}, [text], GRID):
        raise AssertionError
    assert same_bits(call(unet, text), before)


def test_places_that_are_no_grid_are_told() -> None:
    assert [grid_of(n, (8, 8)) for n in (64, 16, 4, 1)] == [(8, 8), (4, 4), (2, 2), (1, 1)]
    with pytest.raises(AdapterError, match="63 places"):
        grid_of(63, (8, 8))
