"""The singular values and vectors of a dense difference, whole or only the first of them."""

from __future__ import annotations

import torch
from torch import Tensor

from .lowrank import Spectrum

_MORE = 16  # random directions beyond those that are wanted
_ROUNDS = 3  # of the power iteration: an energy lost of a ten-thousandth more than the best


def dense_spectrum(matrix: Tensor, shape: tuple[int, ...], *, first: int | None = None) -> Spectrum:
    """The singular value decomposition of an update that is a matrix.

    The whole of it takes seconds for a large weight. Where few parts of many are wanted it is the randomised
    one: the matrix times random directions, a few rounds of power iteration with QR between, then an SVD of
    what is left (Halko, Martinsson and Tropp 2011, arXiv:0909.4061, algorithms 4.4 and 5.1). The same matrix
    gives the same parts always; the caller's random numbers are left alone.

    Args:
        matrix: (out, rest), float32 on the CPU.
        shape: of the weight.
        first: how many parts are wanted; None wants all. More may come.
    """
    smaller = min(matrix.shape)
    if first is None or 3 * (first + _MORE) >= smaller:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return Spectrum(shape, values.double(), left, right)
    random = torch.Generator().manual_seed(0)
    basis = matrix @ torch.randn(matrix.shape[1], first + _MORE, generator=random)
    for _ in range(_ROUNDS):
        basis = torch.linalg.qr(basis)[0]
        basis = matrix @ torch.linalg.qr(matrix.T @ basis)[0]
    basis = torch.linalg.qr(basis)[0]
    small, values, right = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    values = values.double()
    # what lies in none of the directions: too near nothing to be told where the matrix is of so low a rank
    rest = (matrix - basis @ (small * values.float()) @ right).square().sum(dtype=torch.float64)
    return Spectrum(shape, values, basis @ small, right, float(rest))
