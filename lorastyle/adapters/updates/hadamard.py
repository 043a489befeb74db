"""LoHa: the entrywise product of two low-rank matrices, and the low-rank update that it is.

    delta = alpha / r * (w1_a w1_b) * (w2_a w2_b)        (Hyeon-Woo et al. 2021, FedPara, arXiv:2108.06098)

The product of entries is a sum over pairs of ranks, so it has rank r squared, and its factors are the columns
and the rows multiplied pair by pair (Khatri-Rao): exact. With a Tucker core, `w_a` is (r, out), `w_b` is
(r, in), and the core t (r, r, h, w) goes into the second factor. Source: `lycoris/functional/loha.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lorastyle.errors import AdapterError

from ..lowrank import LowRank
from .tucker import MOST_NUMBERS, with_core
from .update import Update, same_weight


@dataclass(frozen=True, eq=False, kw_only=True)
class Hadamard(Update):
    """A LoHa whose r squared exceeds the matrix's own rank: as low rank it would be larger than the matrix.

    Attributes:
        parts: the tensors as in the file, without `hada_`.
        scale: alpha / r.
    """

    parts: Mapping[str, Tensor]
    scale: float

    @property
    def algorithm(self) -> str:
        return "LoHa"

    @property
    def rank(self) -> int:
        return int(self.parts["w1_b"].shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        (up, down), _ = _pairs(self.parts)
        return (up.shape[0], *down.shape[1:])

    def fits(self, shape: tuple[int, ...]) -> bool:
        return same_weight(self.shape, shape)

    def delta(self, weight: Tensor) -> Tensor:
        first, second = (
            up.to(weight.device).float() @ down.to(weight.device).float().flatten(1)
            for up, down in _pairs(self.parts)
        )
        return (self.scale * first * second).reshape(weight.shape)

    def factors(self) -> Mapping[str, Tensor]:
        alpha = torch.tensor(self.scale * self.rank)
        return {**{f"hada_{name}": part for name, part in self.parts.items()}, "alpha": alpha}


def hadamard(parts: Mapping[str, Tensor], scale: float) -> LowRank | Hadamard:
    """The update of these tensors: low rank where r squared is no more than the matrix's own rank could be.

    Args:
        parts: "w1_a", "w1_b", "w2_a", "w2_b", and "t1", "t2" where there are cores.
        scale: alpha / r.
    """
    (up1, down1), (up2, down2) = _pairs(parts)
    shapes = [tuple(factor.shape) for factor in (up1, down1, up2, down2)]
    ranks = up1.shape[1:] == down1.shape[:1] and up2.shape[1:] == down2.shape[:1]
    if not ranks or up1.shape[0] != up2.shape[0] or down1.shape[1:] != down2.shape[1:]:
        raise AdapterError(f"factors that do not go together: {shapes}")
    rank = up1.shape[1] * up2.shape[1]
    inside = down1.shape[1:].numel()
    if rank > min(up1.shape[0], inside) or rank * max(up1.shape[0], inside) > MOST_NUMBERS:
        return Hadamard(parts=parts, scale=scale)
    up = (up1[:, :, None] * up2[:, None, :]).flatten(1)
    down = (down1[:, None] * down2[None, :]).flatten(0, 1)
    if down.ndim == 4:
        up = up[..., None, None]
    return LowRank(down, up, scale * rank)


def _pairs(parts: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(up, down) of both matrices: (out, r) and (r, in) or (r, in, h, w)."""
    found: list[tuple[Tensor, Tensor]] = []
    for n in ("1", "2"):
        up, down, core = parts[f"w{n}_a"], parts[f"w{n}_b"], parts.get(f"t{n}")
        if core is not None:
            up, down = up.T, with_core(core, down)
        found.append((up.flatten(1), down))
    return found
