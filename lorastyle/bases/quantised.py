"""Linear layers whose frozen weights are held in 8 or 4 bits and made anew in every call.

8 bits: every row is rounded to whole numbers of its largest value / 127. 4 bits: the NormalFloat type of
QLoRA (Dettmers et al. 2023, arXiv:2305.14314) in blocks of 64 weights, without the second quantisation of the
blocks' scales; bitsandbytes rounds and restores. An adapter beside such a layer stays in its own precision.

The layers of bitsandbytes are not used. They disregard autocast, move a bias to another dtype when they are
called, round activations to 8 bits in drawing but not in training, and on some CPUs rewrite their weights.
Here training and drawing compute the same thing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorastyle.bank import adaptable_modules
from lorastyle.errors import BaseError

BLOCK = 64  # weights of a block that share a scale, in 4 bits
BYTES = {8: 1.0, 4: 0.5 + 4 / BLOCK}
"""Of one weight. In 8 bits there are four more for every row."""


class QuantisedLinear(nn.Linear):
    """A frozen linear layer: x (..., in) -> (..., out), as `nn.Linear`.

    `weight` holds the codes: (out, in) int8, or uint8 with two weights a byte. `scales` belongs to them.
    """

    scales: Tensor

    def __init__(self, plain: nn.Linear, bits: int, device: torch.device | str | None = None) -> None:
        with torch.device("meta"):
            super().__init__(plain.in_features, plain.out_features, bias=False)
        self.bits = bits
        there = plain.weight.device
        codes, scales = _ROUND[bits](plain.weight.detach().to(device or there))
        self.weight = nn.Parameter(codes.to(there), requires_grad=False)
        self.register_buffer("scales", scales.to(there))
        self.bias = plain.bias
        self.train(plain.training)

    def restored(self, dtype: torch.dtype) -> Tensor:
        """The weights (out, in) as they are computed with."""
        shape = (self.out_features, self.in_features)
        return _RESTORE[self.bits](self.weight.detach(), self.scales, shape, dtype)

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            input = input.to(torch.get_autocast_dtype(kind))
        out = cast(Tensor, _Product.apply(input, self))
        bias = cast("nn.Parameter | None", self.bias)
        return out if bias is None else out + bias.to(out.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantisedLinear:
        # Scales stay float32 when the model is cast: they carry what the codes left out.
        scales = self.scales
        super()._apply(fn, recurse)
        if self.scales.dtype != scales.dtype:
            self.scales = scales.to(self.scales.device)
        return self

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bits={self.bits}"


class _Product(torch.autograd.Function):
    """x W^T, where a gradient makes W anew as well: what is kept for it would be the size that was saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x, layer.restored(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        with torch.autocast(gradient.device.type, enabled=False):
            return gradient @ ctx.layer.restored(gradient.dtype), None


def quantise(model: nn.Module, bits: int, *, device: torch.device | str | None = None) -> int:
    """Put quantised layers in the place of a model's linear ones; how many.

    Args:
        device: where the rounding is done; the codes end up where the weights were.

    Raises:
        BaseError: 4 bits without bitsandbytes.
    """
    plain = linear_layers(model)
    for path, layer in plain.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, QuantisedLinear(layer, bits, device))
    return len(plain)


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Those that can be quantised and are not yet, by path."""
    return {
        path: layer
        for path, layer in adaptable_modules(model).items()
        if isinstance(layer, nn.Linear) and not isinstance(layer, QuantisedLinear)
    }


def has_bitsandbytes() -> bool:
    """Whether 4 bits can be used here."""
    try:
        bitsandbytes_functions()
    except BaseError:
        return False
    return True


@cache
def bitsandbytes_functions() -> Any:
    """bitsandbytes' functions, imported when first wanted."""
    try:
        # It logs that kernels are missing which are not used here. With a handler of its own, Python does not
        # print that; handlers of whoever uses lorastyle still get it.
        logging.getLogger("bitsandbytes").addHandler(logging.NullHandler())
        from bitsandbytes import functional
    except (ImportError, OSError, RuntimeError) as error:  # absent, or its library does not load here
        why = "" if isinstance(error, ModuleNotFoundError) else f" ({str(error).splitlines()[0]})"
        raise BaseError(
            f'memory = "nf4" needs bitsandbytes, which is not usable here{why}. Add it with '
            'pip install "bitsandbytes>=0.46", or choose "int8", which needs nothing more.'
        ) from error
    return functional


def _round_8(weight: Tensor) -> tuple[Tensor, Tensor]:
    weight = weight.float()
    scales = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
    return (weight / scales[:, None]).round().to(torch.int8), scales


def _restore_8(codes: Tensor, scales: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    return codes.to(dtype).mul_(scales[:, None].to(dtype))


def _round_4(weight: Tensor) -> tuple[Tensor, Tensor]:
    flat = weight.float().flatten()
    blocks = F.pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)
    codes, state = bitsandbytes_functions().quantize_4bit(
        blocks, blocksize=BLOCK, quant_type="nf4", compress_statistics=False
    )
    return codes, state.absmax


def _restore_4(codes: Tensor, scales: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    # One block a row: bitsandbytes' kernels for CPUs take wrong scales where rows do not end with a block.
    blocks = torch.Size((scales.numel(), BLOCK))
    functional = bitsandbytes_functions()
    state = functional.QuantState(absmax=scales, shape=blocks, dtype=dtype, blocksize=BLOCK, quant_type="nf4")
    return functional.dequantize_4bit(codes, state).flatten()[: math.prod(shape)].view(shape)


_ROUND: dict[int, Callable[[Tensor], tuple[Tensor, Tensor]]] = {8: _round_8, 4: _round_4}
_RESTORE: dict[int, Callable[[Tensor, Tensor, tuple[int, int], torch.dtype], Tensor]] = {
    8: _restore_8,
    4: _restore_4,
}
