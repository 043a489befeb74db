"""Adapters with random factors for the tests of the bank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lorastyle.adapters import Adapter, LowRank
from lorastyle.bank import adaptable_modules, select_targets


def random_update(module: nn.Module, rank: int, alpha: float, generator: torch.Generator) -> LowRank:
    """An update of this module that changes its output clearly."""
    if isinstance(module, nn.Conv2d):
        down, up = (rank, *module.weight.shape[1:]), (module.out_channels, rank, 1, 1)
    else:
        assert isinstance(module, nn.Linear)
        down, up = (rank, module.in_features), (module.out_features, rank)
    return LowRank(
        torch.randn(down, generator=generator) / 4, torch.randn(up, generator=generator) / 4, alpha
    )


def random_adapter(
    name: str,
    models: Mapping[str, nn.Module],
    patterns: Sequence[str] = ("all",),
    *,
    rank: int = 3,
    alpha: float = 2.0,
    seed: int = 0,
) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    components: dict[str, dict[str, LowRank]] = {}
    for component, model in models.items():
        modules = adaptable_modules(model)
        components[component] = {
            path: random_update(modules[path], rank, alpha, generator)
            for path in select_targets(model, patterns, component)
        }
    return Adapter(name, components, {})


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal to the bit: unlike `torch.equal` this tells -0 from +0, and takes equal NaNs for equal."""
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return a.dtype == b.dtype and torch.equal(a.contiguous().view(whole), b.contiguous().view(whole))
