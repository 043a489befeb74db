"""Files of one module each as LyCORIS's own classes write them, and the weights that they make of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """One algorithm on one module.

    Attributes:
        make: LyCORIS's module around ours.
        low_rank: whether lorastyle makes a low-rank update of it.
    """

    make: Callable[[nn.Module], Any]
    base: Callable[[], nn.Module]
    low_rank: bool = False


def _linear() -> nn.Module:
    return nn.Linear(20, 24)


def _wide() -> nn.Module:
    return nn.Linear(40, 32)


def _conv() -> nn.Module:
    return nn.Conv2d(20, 24, 3, padding=1)


def _of(name: str, **settings: Any) -> Callable[[nn.Module], Any]:
    def make(base: nn.Module) -> Any:
        from lycoris import modules

        classes = {
            "locon": modules.locon.LoConModule,
            "loha": modules.loha.LohaModule,
            "lokr": modules.lokr.LokrModule,
            "oft": modules.diag_oft.DiagOFTModule,
            "boft": modules.boft.ButterflyOFTModule,
            "ia3": modules.ia3.IA3Module,
            "full": modules.full.FullModule,
            "norm": modules.norms.NormModule,
        }
        return classes[name]("m", base, 1.0, **settings)

    return make


CASES: Mapping[str, Case] = {
    "locon": Case(_of("locon", lora_dim=4, alpha=3), _conv, low_rank=True),
    "locon tucker": Case(_of("locon", lora_dim=4, alpha=3, use_tucker=True), _conv, low_rank=True),
    "rslora": Case(_of("locon", lora_dim=4, alpha=3, rs_lora=True), _linear, low_rank=True),
    "loha": Case(_of("loha", lora_dim=4, alpha=3), _linear, low_rank=True),
    "loha large": Case(_of("loha", lora_dim=8, alpha=3), _linear),
    "loha conv": Case(_of("loha", lora_dim=4, alpha=3), _conv, low_rank=True),
    "loha tucker": Case(_of("loha", lora_dim=4, alpha=3, use_tucker=True), _conv, low_rank=True),
    "lokr": Case(_of("lokr", lora_dim=2, alpha=3, factor=4), _linear),
    "lokr whole": Case(_of("lokr", lora_dim=1000, alpha=3, factor=4), _linear),
    "lokr both": Case(_of("lokr", lora_dim=1, alpha=3, decompose_both=True, factor=4), _wide),
    "lokr conv": Case(_of("lokr", lora_dim=2, alpha=3, factor=4), _conv),
    "lokr tucker": Case(_of("lokr", lora_dim=2, alpha=3, factor=4, use_tucker=True), _conv),
    "dora": Case(_of("locon", lora_dim=4, alpha=3, weight_decompose=True), _linear),
    "dora conv": Case(_of("locon", lora_dim=4, alpha=3, weight_decompose=True), _conv),
    "dora on the inputs": Case(
        _of("locon", lora_dim=4, alpha=3, weight_decompose=True, wd_on_out=False), _linear
    ),
    "dora conv on the inputs": Case(
        _of("locon", lora_dim=4, alpha=3, weight_decompose=True, wd_on_out=False), _conv
    ),
    "dora of loha": Case(_of("loha", lora_dim=4, alpha=3, weight_decompose=True), _linear),
    "dora of lokr": Case(_of("lokr", lora_dim=2, alpha=3, factor=4, weight_decompose=True), _conv),
    "oft": Case(_of("oft", lora_dim=4), _linear),
    "oft bound": Case(_of("oft", lora_dim=4, constraint=0.02), _linear),
    "oft rescaled": Case(_of("oft", lora_dim=4, rescaled=True), _conv),
    "boft": Case(_of("boft", lora_dim=4), _wide),
    "boft rescaled": Case(_of("boft", lora_dim=6, rescaled=True, constraint=0.1), _conv),
    "ia3": Case(_of("ia3"), _linear),
    "ia3 on the inputs": Case(_of("ia3", train_on_input=True), _conv),
    "full": Case(_of("full"), _conv),
    "norm": Case(_of("norm"), lambda: nn.GroupNorm(4, 24)),
    "layer norm": Case(_of("norm"), lambda: nn.LayerNorm(24)),
}


@dataclass(frozen=True)
class Made:
    """A module as it was, the file's tensors by their ends, an input, and what LyCORIS answers to it.

    Its `forward` is the witness: `get_merged_weight` of LoHa and LoKr carries alpha / rank twice (4.1.3).
    """

    base: nn.Module
    tensors: dict[str, Tensor]
    input: Tensor
    output: Tensor

    @property
    def weight(self) -> Tensor:
        assert isinstance(self.base.weight, Tensor)
        return self.base.weight.detach()

    def with_weight(self, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """What the module answers with another weight, and with more of a bias."""
        changed = {"weight": weight}
        if bias is not None:
            assert isinstance(self.base.bias, Tensor)
            changed["bias"] = self.base.bias.detach() + bias
        return torch.func.functional_call(self.base, changed, self.input)


def made(case: Case) -> Made:
    """An update of chance by LyCORIS."""
    torch.manual_seed(7)
    base = case.base()
    given = copy.deepcopy(base)
    theirs = case.make(given)
    with torch.no_grad():
        if theirs.name == "full":
            theirs.apply_to()  # or its file would hold the difference less the weight
        for parameter in theirs.parameters():
            parameter += torch.randn_like(parameter) / 4
        tensors = {
            key: value.detach().clone().contiguous()
            for key, value in theirs.state_dict().items()
            if not key.startswith("org_module") and key != "scalar"
        }
        channels = base.in_channels if isinstance(base, nn.Conv2d) else None
        size = (2, channels, 5, 5) if isinstance(channels, int) else (2, 24, 3, 3)
        if isinstance(base, nn.Linear | nn.LayerNorm):
            size = (5, base.in_features if isinstance(base, nn.Linear) else 24)
        x = torch.randn(size)
        return Made(base, tensors, x, theirs.forward(x).detach())
