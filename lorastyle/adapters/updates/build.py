"""The tensors of one module of a file, made into its updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorastyle.errors import AdapterError

from ..lowrank import LowRank
from .difference import Difference
from .dora import DoRA
from .hadamard import hadamard
from .ia3 import IA3
from .kronecker import Kronecker, lokr_rank
from .orthogonal import Orthogonal
from .tucker import MOST_NUMBERS, with_core
from .update import Update


@dataclass(frozen=True)
class Built:
    """A module's updates: a low-rank one, another, or both (a bias beside a LoRA)."""

    low_rank: LowRank | None = None
    dense: Update | None = None


def build(
    parts: Mapping[str, Tensor],
    default_alpha: Callable[[int | None], float],
    shape: tuple[int, ...] | None = None,
) -> Built:
    """The updates of one module.

    Args:
        parts: its tensors by role, float32 where they are floating point.
        default_alpha: alpha for a rank, where there is no tensor that says it; for None the strength of a
            Kronecker product that has no rank.
        shape: the weight's, where it is known.

    Raises:
        AdapterError: a tensor is missing.
        ValueError, RuntimeError, IndexError, OverflowError: shapes that do not go together.
    """
    made = _weight(parts, default_alpha)
    if "magnitude" in parts or "row_magnitude" in parts:
        made = _dora(made, parts, shape)
    more = _difference(parts, made)
    if isinstance(made, LowRank):
        return Built(made, more)
    if made is None:
        return Built(None, more)
    if more is not None and more.weight is not None:
        raise AdapterError(f"{made.algorithm} and a {more.algorithm} of one module")
    return Built(None, made if more is None else replace(made, bias=more.bias))


def _weight(
    parts: Mapping[str, Tensor], default_alpha: Callable[[int | None], float]
) -> LowRank | Update | None:
    """What the factors make, whichever algorithm's they are."""
    if "hada_w1_a" in parts or "hada_w2_a" in parts:
        own = _named(parts, "hada_", ("w1_a", "w1_b", "w2_a", "w2_b"))
        return hadamard(own, _scale(parts, int(own["w1_b"].shape[0]), default_alpha))
    if any(name.startswith("lokr_") for name in parts):
        return _kronecker(parts, default_alpha)
    if "oft_blocks" in parts:
        bound = max(float(parts["alpha"]), 0.0) if "alpha" in parts else 0.0
        return Orthogonal(blocks=_square(parts["oft_blocks"]), constraint=bound, rescale=parts.get("rescale"))
    if "oft_diag" in parts:
        blocks = _square(parts["oft_diag"])
        return Orthogonal(blocks=blocks, rescale=parts.get("rescale"), ready=True)
    if "on_input" in parts or "weight" in parts:
        _need(parts, ("weight", "on_input"))
        return IA3(weight=parts["weight"], on_input=bool(parts["on_input"]))
    if any(name in parts for name in ("down", "up", "mid")):
        _need(parts, ("down", "up"))
        down = with_core(parts["mid"], parts["down"].flatten(1)) if "mid" in parts else parts["down"]
        rank = int(down.shape[0]) if down.ndim else 0
        if "scale" in parts:
            alpha = float(parts["scale"]) * rank
        else:
            alpha = float(parts["alpha"]) if "alpha" in parts else default_alpha(rank)
        return LowRank(down, parts["up"], alpha)
    return None


def _kronecker(parts: Mapping[str, Tensor], default_alpha: Callable[[int | None], float]) -> Kronecker:
    own = _named(parts, "lokr_", ())
    for side in ("w1", "w2"):
        if side not in own:
            _need(own, (f"{side}_a", f"{side}_b"))
    rank = lokr_rank(own)
    if rank is not None:
        return Kronecker(parts=own, alpha=_scale(parts, rank, default_alpha) * rank)
    # LyCORIS's alpha says nothing of two whole sides. peft's configuration does, and has no tensor for it.
    strength = 1.0 if "alpha" in parts else default_alpha(None)
    if strength != 1.0:
        own["w1"] = strength * own["w1"]
    return Kronecker(parts=own, alpha=1.0)


def _dora(made: LowRank | Update | None, parts: Mapping[str, Tensor], shape: tuple[int, ...] | None) -> DoRA:
    if made is None:
        raise AdapterError("has a magnitude and no factors")
    if "row_magnitude" in parts:  # peft's, which is the rows' in whatever shape
        return DoRA(inside=made, magnitude=parts["row_magnitude"].flatten(), axis=0)
    magnitude = parts["magnitude"]
    rows = magnitude.ndim == 1 or magnitude.shape[0] == magnitude.numel()
    if magnitude.numel() == 1 and shape is not None and len(shape) > 1:  # one row or one column
        rows = shape[0] == 1
    return DoRA(inside=made, magnitude=magnitude.flatten(), axis=0 if rows else 1)


def _difference(parts: Mapping[str, Tensor], made: LowRank | Update | None) -> Difference | None:
    """Differences beside whatever else the module has. Those that belong to a LoRA carry its scale."""
    weight = parts.get("w_norm", parts.get("diff"))
    bias = parts.get("b_norm", parts.get("diff_b"))
    scale = made.scale if isinstance(made, LowRank) else 1.0
    if "up_bias" in parts:
        bias = scale * parts["up_bias"]
    if "bias" in parts:  # A1111's, which is added to the dense update before it is scaled
        if parts["bias"].ndim == 1:
            bias = scale * parts["bias"]
        else:
            weight = scale * parts["bias"]
    if "bias_indices" in parts:
        _need(parts, ("bias_indices", "bias_values", "bias_size"))
        weight = scale * _sparse(parts["bias_indices"], parts["bias_values"], parts["bias_size"])
    return None if weight is None and bias is None else Difference(weight=weight, bias=bias)


def _sparse(indices: Tensor, values: Tensor, size: Tensor) -> Tensor:
    """LyCORIS's sparse rest of an extraction, (out, everything else)."""
    sizes = tuple(int(n) for n in size)
    if len(sizes) != 2 or min(sizes) < 1 or sizes[0] * sizes[1] > MOST_NUMBERS:
        raise AdapterError(f"a sparse difference of size {sizes}")
    rows, columns = indices.long()
    if bool((indices < 0).any()) or bool((rows >= sizes[0]).any()) or bool((columns >= sizes[1]).any()):
        raise AdapterError(f"a sparse difference with places outside of {sizes}")
    return torch.zeros(sizes).index_put((rows, columns), values.float(), accumulate=True)


def _scale(parts: Mapping[str, Tensor], rank: int, default_alpha: Callable[[int | None], float]) -> float:
    """alpha / rank, or A1111's `.scale` in its place."""
    if rank < 1:
        raise AdapterError("a rank of 0")
    if "scale" in parts:
        return float(parts["scale"])
    return (float(parts["alpha"]) if "alpha" in parts else default_alpha(rank)) / rank


def _named(parts: Mapping[str, Tensor], prefix: str, needed: tuple[str, ...]) -> dict[str, Tensor]:
    own = {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}
    _need(own, needed)
    return own


def _need(parts: Mapping[str, Tensor], names: tuple[str, ...]) -> None:
    if missing := [name for name in names if name not in parts]:
        raise AdapterError(
            f"has no {' and no '.join(missing)} factor; the file is incomplete. Download or export it again"
        )


def _square(blocks: Tensor) -> Tensor:
    if blocks.ndim not in (3, 4) or blocks.shape[-1] != blocks.shape[-2] or blocks.numel() == 0:
        raise AdapterError(f"blocks of shape {tuple(blocks.shape)} are not square")
    return blocks
