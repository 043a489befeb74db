"""How large an update is, and of how many directions: from its singular values.

Low rank is measured by its factors, and a Kronecker product by its two sides; neither is formed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .lowrank import LowRank
from .updates import Difference, DoRA, Hadamard, Kronecker, Update
from .updates.tucker import MOST_NUMBERS, with_core

ENERGY = 0.99
"""The share of an update's squared norm that `Measure.energy_rank` holds."""


@dataclass(frozen=True)
class Measure:
    """What the singular values s of an update tell.

    Attributes:
        norm: Frobenius, the root of the sum of s squared.
        outputs: rows of the update.
        rank: the most that the update can have, by the sizes of its factors. None of a vector (a norm layer).
        effective_rank: exp of the entropy of s / sum(s), between 1 and `rank`: how many directions of equal
            size would be as spread out (Roy & Vetterli 2007, "The effective rank", EUSIPCO, definition 2).
            None of a vector, and of nothing but zeros.
        energy_rank: the smallest rank that keeps 99 % of the squared norm. None likewise.
    """

    norm: float
    outputs: int
    rank: int | None
    effective_rank: float | None
    energy_rank: int | None

    @property
    def gain(self) -> float:
        """What the update makes of independent inputs of unit variance: the root mean square of its outputs.

        Comparable between modules, as the norm is not, which grows with their size.
        """
        return self.norm / math.sqrt(self.outputs)


def measure(
    low_rank: LowRank | None, other: Update | None, weight: Callable[[], Tensor] | None = None
) -> Measure | None:
    """Of the updates of one module together.

    Args:
        weight: reads the base's weight; asked only where the update depends on it. Without it, of DoRA the
            update inside is measured, and OFT, BOFT and IA3 are not.

    Returns:
        None where the update depends on a weight that is not given, where it would be too large to form, or
        where there is none of the weight (a bias).
    """
    if other is not None and other.reads_weight and weight is not None:
        return _on(weight(), low_rank, other)
    if isinstance(other, DoRA):
        inside = other.inside
        return measure(inside, None) if isinstance(inside, LowRank) else measure(None, inside)
    whole = other.weight if isinstance(other, Difference) else None
    if low_rank is not None:
        if whole is None:
            return _of(factor_values(low_rank.up, low_rank.down, low_rank.scale), low_rank.shape[0])
        if math.prod(low_rank.shape) != whole.numel() or whole.numel() > MOST_NUMBERS:
            return None
        return _dense(low_rank.delta() + whole.reshape(low_rank.shape))
    if whole is not None:
        return _dense(whole)
    if isinstance(other, Kronecker):
        return _of(_kronecker(other), other.shape[0])
    if isinstance(other, Hadamard) and math.prod(other.shape) <= MOST_NUMBERS:
        return _dense(other.delta(torch.empty(other.shape)))
    return None


def _on(weight: Tensor, low_rank: LowRank | None, other: Update) -> Measure | None:
    """Of what they make of this weight."""
    delta = other.delta(weight)
    if low_rank is not None:
        more = low_rank.delta().reshape(weight.shape)
        delta = more if delta is None else delta + more
    return None if delta is None else _dense(delta)


def factor_values(up: Tensor, down: Tensor, scale: float = 1.0) -> Tensor:
    """The singular values of `scale * up @ down`, falling, in float64: thin QR of both, then those of the
    small core; O(rank^2 (out + in)).

    Args:
        up: (out, rank), or with ones at its end.
        down: (rank, in), or (rank, in, height, width).
    """
    left = torch.linalg.qr(up.detach().flatten(1).to("cpu", torch.float64), mode="r")[1]
    right = torch.linalg.qr(down.detach().flatten(1).to("cpu", torch.float64).T, mode="r")[1]
    return torch.linalg.svdvals(scale * (left @ right.T))


def _kronecker(update: Kronecker) -> Tensor:
    """The singular values of a Kronecker product are the products of those of its sides (Van Loan 2000, "The
    ubiquitous Kronecker product"). Flattening a kernel keeps it one, for the second side alone has it.
    """
    parts = update.parts
    first = _values(parts["w1"]) if "w1" in parts else factor_values(parts["w1_a"], parts["w1_b"])
    if "w2" in parts:
        second = _values(parts["w2"])
    elif "t2" in parts:
        second = factor_values(parts["w2_a"].T, with_core(parts["t2"], parts["w2_b"]))
    else:
        second = factor_values(parts["w2_a"], parts["w2_b"])
    products = abs(update.scale) * torch.outer(first, second).flatten()
    return products.sort(descending=True).values


def _values(matrix: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrix.detach().flatten(1).to("cpu", torch.float64))


def _dense(update: Tensor) -> Measure | None:
    """Of a matrix that the file holds whole, or a vector of a norm layer."""
    if update.ndim > 1 and update.numel() <= MOST_NUMBERS:
        return _of(_values(update), update.shape[0])
    return Measure(float(update.double().norm()), max(update.shape[:1], default=1), None, None, None)


def _of(values: Tensor, outputs: int) -> Measure:
    """`values`: (k,), falling, in float64."""
    squares = values.square()
    energy, total = float(squares.sum()), float(values.sum())
    norm = math.sqrt(energy)
    if not energy:
        return Measure(norm, outputs, len(values), None, None)
    shares = values / total
    entropy = -float(torch.special.xlogy(shares, shares).sum())
    enough = squares.cumsum(0) >= ENERGY * energy * (1 - 1e-12)
    return Measure(norm, outputs, len(values), math.exp(entropy), int(enough.nonzero()[0]) + 1)
