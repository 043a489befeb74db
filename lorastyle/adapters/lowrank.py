"""One low-rank update of one weight."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lorastyle.errors import AdapterError


@dataclass(frozen=True, eq=False)
class LowRank:
    """The update `alpha / rank * up @ down` of one Linear or Conv2d weight (Hu et al. 2021,
    arXiv:2106.09685).

    Linear: `down` is (rank, in) and `up` is (out, rank).
    Conv2d: `down` is (rank, in, height, width) and `up` is (out, rank, 1, 1); stride and padding belong to
    `down`.

    Raises:
        AdapterError: the shapes do not belong together, or alpha is not a finite number.
    """

    down: Tensor
    up: Tensor
    alpha: float

    def __post_init__(self) -> None:
        down, up = tuple(self.down.shape), tuple(self.up.shape)
        linear = len(down) == 2 and len(up) == 2
        conv = len(down) == 4 and len(up) == 4 and up[2:] == (1, 1)
        if not (linear or conv) or up[1] != down[0] or 0 in down or 0 in up:
            raise AdapterError(
                f"down {down} and up {up} are not the factors of one update. Linear needs (rank, in) and "
                "(out, rank); Conv2d needs (rank, in, height, width) and (out, rank, 1, 1)."
            )
        if not math.isfinite(self.alpha):
            raise AdapterError(f"alpha is {self.alpha}; it must be a finite number.")

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """The factor alpha / rank that the update carries at the user's scale of 1."""
        return self.alpha / self.rank

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight that this updates: (out, in) or (out, in, height, width)."""
        return (self.up.shape[0], *self.down.shape[1:])

    @property
    def parameters(self) -> int:
        return self.down.numel() + self.up.numel()

    @property
    def finite(self) -> bool:
        """Whether no number in it is NaN or infinite."""
        return all(is_finite(factor.detach()) for factor in (self.up, self.down))

    def delta(self) -> Tensor:
        """The dense update: float32, in the weight's shape, on the factors' device."""
        up, down = self.up.flatten(1).float(), self.down.flatten(1).float()
        return (self.scale * (up @ down)).reshape(self.shape)

    def to(self, device: torch.device | str) -> LowRank:
        """The same update with its factors there."""
        return LowRank(self.down.to(device), self.up.to(device), self.alpha)

    def folded(self) -> LowRank:
        """The same update with a scale of 1: alpha is the rank, and `up` (float32) has taken the rest in."""
        if self.alpha == self.rank:
            return self
        return LowRank(self.down, (self.up.double() * self.scale).float(), float(self.rank))

    def balanced(self) -> LowRank:
        """The same update, for float16: powers of two moved between `up` and `down`, which changes no digit.

        Only where one of them could overflow there, or lose small values.
        """
        up, down = float(self.up.abs().max()), float(self.down.abs().max())
        if up == 0 or down == 0 or all(2.0**-8 <= value <= 2.0**12 for value in (up, down)):
            return self
        shift = 2.0 ** round((math.log2(up) - math.log2(down)) / 2)
        return LowRank(self.down * shift, self.up / shift, self.alpha)

    def inner(self, other: LowRank) -> float:
        """The inner product of two dense updates, tr(delta^T other.delta), without forming either.

        tr(A1^T B1^T B2 A2) = sum of (B1^T B2) * (A1 A2^T): O(rank^2 (in + out)), in float64 on the CPU.

        Raises:
            AdapterError: the updates belong to weights of different shapes.
        """
        (up, down), (other_up, other_down) = self._factors(), other._factors()
        if _of_linear(self.shape) != _of_linear(other.shape):
            raise AdapterError(f"updates of weights {self.shape} and {other.shape} have no inner product.")
        grams = (up.T @ other_up) * (down @ other_down.T)
        return self.scale * other.scale * float(grams.sum())

    def norm(self) -> float:
        """The Frobenius norm of the dense update, without forming it."""
        return math.sqrt(max(self.inner(self), 0.0))

    def truncate(self, rank: int) -> LowRank:
        """The best update of at most `rank` in the Frobenius norm (Eckart-Young), with scale 1.

        Thin QR of both factors, then an SVD of the small core, so the dense matrix is never formed. The
        factors share the singular values evenly and are float32. A rank that is not smaller returns the
        update itself.

        Raises:
            AdapterError: rank is below 1.
        """
        if rank < 1:
            raise AdapterError(f"rank is {rank}; it must be at least 1.")
        if rank >= self.rank:
            return self
        cut = self.spectrum().cut(rank)
        return LowRank(cut.down.to(self.down.device), cut.up.to(self.up.device), cut.alpha)

    def spectrum(self) -> Spectrum:
        """The singular value decomposition of the dense update, which is never formed: thin QR of both
        factors, then an SVD of the small core; O(rank^2 (in + out)), in float64 on the CPU.
        """
        up, down = self._factors()
        q_up, r_up = torch.linalg.qr(up)
        q_down, r_down = torch.linalg.qr(down.T)
        u, values, vh = torch.linalg.svd(self.scale * (r_up @ r_down.T), full_matrices=False)
        return Spectrum(self.shape, values, (q_up @ u).float(), (vh @ q_down.T).float())

    def _factors(self) -> tuple[Tensor, Tensor]:
        """`up` (out, rank) and `down` (rank, rest) in float64; on the CPU because MPS has no float64."""
        return (
            self.up.detach().flatten(1).to("cpu", torch.float64),
            self.down.detach().flatten(1).to("cpu", torch.float64),
        )


@dataclass(frozen=True, eq=False)
class Spectrum:
    """An update as `left @ diag(values) @ right`, the parts that matter most first.

    Attributes:
        shape: of the weight, (out, in) or (out, in, height, width).
        values: (k,), the singular values in float64, none of them negative, falling.
        left: (out, k), right: (k, rest), with orthonormal columns and rows; float32 on the CPU.
        rest: the squared Frobenius norm of what is in the update and in none of these parts; 0 where they
            are all of it.
    """

    shape: tuple[int, ...]
    values: Tensor
    left: Tensor
    right: Tensor
    rest: float = 0.0

    @property
    def energy(self) -> float:
        """The squared Frobenius norm of the whole update."""
        return float(self.values.square().sum()) + self.rest

    def lost(self, rank: int) -> float:
        """The squared Frobenius norm of what `cut(rank)` leaves out (Eckart-Young)."""
        return float(self.values[rank:].square().sum()) + self.rest

    def error(self, rank: int) -> float:
        """What `cut(rank)` leaves out, in the Frobenius norm, over the norm of the whole."""
        whole = self.energy
        return math.sqrt(self.lost(rank) / whole) if whole else 0.0

    def cut(self, rank: int) -> LowRank:
        """The first `rank` parts, as an update with scale 1 in float32; the factors share the values."""
        root = self.values[:rank].sqrt()
        kept = len(root)
        ones = (1,) * (len(self.shape) - 2)
        return LowRank(
            down=(root[:, None] * self.right[:kept]).float().reshape(kept, *self.shape[1:]),
            up=(self.left[:, :kept] * root).float().reshape(self.shape[0], kept, *ones),
            alpha=float(kept),
        )


def _of_linear(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A 1x1 Conv2d weight's shape as that of the Linear that computes the same; others as they are."""
    return shape[:2] if shape[2:] == (1, 1) else shape


def is_finite(tensor: Tensor) -> bool:
    """Whether no number is NaN or infinite, in one pass without a mask: the extremes carry both."""
    return tensor.numel() == 0 or all(math.isfinite(float(extreme)) for extreme in torch.aminmax(tensor))
