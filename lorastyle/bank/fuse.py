"""Fused mode: the update added to the weight itself, so that a call costs what the base costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from lorastyle.adapters import LowRank
from lorastyle.errors import AdapterError

from .layers import PLAIN_DTYPES, GatedLayer


@torch.no_grad()
def fused_weight(weight: Tensor, updates: Iterable[tuple[LowRank, float]]) -> Tensor:
    """`W + up diag(gate) down` as a new tensor, computed in float32 (float64 for float64 weights), then cast.

    Args:
        weight: (out, in) or (out, in, height, width).
        updates: each update of this weight, with the user's scale for it.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    total = torch.zeros(weight.shape[0], weight[0].numel(), dtype=dtype, device=weight.device)
    for update, scale in updates:
        up = update.up.to(weight.device, dtype).flatten(1) * (update.scale * scale)
        total.addmm_(up, update.down.to(weight.device, dtype).flatten(1))
    return (weight.to(dtype) + total.view(weight.shape)).to(weight.dtype)


def check_fusable(layer: GatedLayer, path: str) -> None:
    """Can the updates of this layer be added to its weight now?

    Raises:
        AdapterError: the weight is quantised, so that the sum would be rounded away; it is offloaded, or
            computed anew in every call; or the layer is being trained, so that its update changes with every
            step.
    """
    if "weight" not in dict(layer.base.named_parameters(recurse=False)):
        raise AdapterError(
            f"Cannot fuse into {path}: its weight is parametrised (weight_norm and its like), so there is no "
            "tensor to replace. Draw without fusing."
        )
    weight = cast(Tensor, layer.base.weight)
    if weight.device.type == "meta":
        raise AdapterError(
            f"Cannot fuse into {path}: its weights are offloaded and not at hand. Draw without fusing, or "
            "load the base without sequential offload."
        )
    plain = type(weight) in (Tensor, nn.Parameter) and type(weight.data) is Tensor
    if not plain or weight.dtype not in PLAIN_DTYPES or hasattr(weight, "quant_state"):
        raise AdapterError(
            f"Cannot fuse into {path}: its weights are quantised ({type(weight).__name__}, {weight.dtype}). "
            "Draw without fusing; adapters beside a quantised weight stay exact."
        )
    if layer.trainable is not None and layer.training:
        raise AdapterError(
            f"Cannot fuse while {path} is being trained: the adapter changes with every step. "
            "Call eval() on the model first, and restore() before training goes on."
        )
