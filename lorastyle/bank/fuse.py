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
def fused_weight(
    weight: Tensor, updates: Iterable[tuple[LowRank, float]], dense: Tensor | None = None
) -> Tensor:
    """`W + up diag(gate) down` as a new tensor, computed in float32 (float64 for float64 weights), then cast.

    Args:
        weight: (out, in) or (out, in, height, width).
        updates: each update of this weight, with the user's scale for it.
        dense: what updates that are not low rank add, scaled, in the weight's shape.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    if dense is None:
        total = torch.zeros(weight.shape[0], weight[0].numel(), dtype=dtype, device=weight.device)
    else:
        total = dense.to(weight.device, dtype).flatten(1).clone()
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
    if why := replaceable(layer.base):
        raise AdapterError(f"Cannot fuse into {path}: {why} Draw without fusing.")
    if layer.trainable is not None and layer.training:
        raise AdapterError(
            f"Cannot fuse while {path} is being trained: the adapter changes with every step. "
            "Call eval() on the model first, and restore() before training goes on."
        )


def replaceable(module: nn.Module) -> str | None:
    """Why no other tensor can be put in the place of a module's weight, as a sentence; None where one can."""
    if "weight" not in dict(module.named_parameters(recurse=False)):
        return "its weight is parametrised (weight_norm and its like), so there is no tensor to replace."
    weight = cast(Tensor, module.weight)
    if weight.device.type == "meta":
        return "its weights are offloaded and not at hand, as sequential offload leaves them."
    plain = type(weight) in (Tensor, nn.Parameter) and type(weight.data) is Tensor
    if not plain or weight.dtype not in PLAIN_DTYPES or hasattr(weight, "quant_state"):
        return f"its weights are quantised ({type(weight).__name__}, {weight.dtype})."
    return None
