"""Ways to prune the differences of several adapters before they are added: number by number, so dense.

All take matrices that have their scales already, float32 and of one shape, and give one of that shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def largest(matrix: Tensor, density: float) -> Tensor:
    """The share `density` of the numbers that are largest in magnitude, zeros elsewhere. Of equals at the
    edge all stay.
    """
    count = max(1, round(density * matrix.numel()))
    if count >= matrix.numel():
        return matrix
    sizes = matrix.abs()
    edge = sizes.flatten().kthvalue(matrix.numel() - count + 1).values
    return torch.where(sizes >= edge, matrix, 0.0)


def magnitude(matrices: Sequence[Tensor], density: float) -> Tensor:
    """Each pruned to its largest numbers, then added."""
    return torch.stack([largest(m, density) for m in matrices]).sum(0)


def ties(matrices: Sequence[Tensor], density: float) -> Tensor:
    """TIES (Yadav et al. 2023, arXiv:2306.01708): trim each to its largest numbers; elect for each place the
    sign of the sum; average those that have it.

    The scales are in the matrices when signs are elected, so that a negative one votes against. As in the
    paper it is an average: where two agree the result is between them, not their sum.
    """
    trimmed = torch.stack([largest(m, density) for m in matrices])
    agrees = (trimmed.sign() == trimmed.sum(0).sign()) & (trimmed != 0)
    return torch.where(agrees, trimmed, 0.0).sum(0) / agrees.sum(0).clamp(min=1)


def dare(matrices: Sequence[Tensor], density: float, random: torch.Generator) -> Tensor:
    """DARE (Yu et al. 2023, arXiv:2311.03099): of each drop numbers at random, so that about the share
    `density` stays, divide what stays by it, and add.
    """
    kept = [(torch.rand(m.shape, generator=random) < density) * m / density for m in matrices]
    return torch.stack(kept).sum(0)
