"""OFT and BOFT: the rows of the weight turned by orthogonal blocks.

    W' = rescale * R W,  R = (I + Q)(I - Q)^-1,  Q = X - X^T        (Qiu et al. 2023, arXiv:2306.07280)

R is block diagonal; BOFT multiplies several such matrices with the rows shuffled between them, as a butterfly
(Liu et al. 2023, arXiv:2311.06243). A positive alpha is no scale but bounds the norm of Q, at alpha times the
number of rows. Sources: `lycoris/functional/diag_oft.py` and `boft.py`, kohya's `networks/oft.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .update import Update


@dataclass(frozen=True, eq=False, kw_only=True)
class Orthogonal(Update):
    """OFT or BOFT.

    Attributes:
        blocks: X, (blocks, size, size); of BOFT (stages, blocks, size, size).
        constraint: alpha as in the file; 0 bounds nothing.
        rescale: a factor for each row, (out, 1, ...); None is 1.
        ready: `blocks` are those of R itself, as LyCORIS once wrote (`oft_diag`).
    """

    blocks: Tensor
    constraint: float = 0.0
    rescale: Tensor | None = None
    ready: bool = False

    @property
    def algorithm(self) -> str:
        return "BOFT" if self.blocks.ndim == 4 else "OFT"

    @property
    def reads_weight(self) -> bool:
        return True

    def fits(self, shape: tuple[int, ...]) -> bool:
        rows, size = self.blocks.shape[-3] * self.blocks.shape[-1], self.blocks.shape[-1]
        if self.blocks.ndim == 4:  # the last stage's rows must meet too
            farthest = 2 ** (min(self.blocks.shape[0], 63) - 1) * size
            if size % 2 or rows % farthest:
                return False
        return rows == shape[0] and (self.rescale is None or self.rescale.numel() == shape[0])

    def delta(self, weight: Tensor) -> Tensor:
        original = weight.float().flatten(1)
        turns = self._turns(weight.device, rows=weight.shape[0])
        turned = self._butterfly(turns, original) if turns.ndim == 4 else _turn(turns.mT, original)
        if self.rescale is not None:
            turned = self.rescale.to(weight.device).float().reshape(-1, 1) * turned
        return (turned - original).reshape(weight.shape)

    def factors(self) -> Mapping[str, Tensor]:
        factors = {"oft_diag" if self.ready else "oft_blocks": self.blocks}
        if not self.ready:
            factors["alpha"] = torch.tensor(self.constraint)
        if self.rescale is not None:
            factors["rescale"] = self.rescale
        return factors

    def _turns(self, device: torch.device, *, rows: int) -> Tensor:
        blocks = self.blocks.to(device).float()
        if self.ready:
            return blocks
        skew = blocks - blocks.mT
        most, norm = self.constraint * rows, skew.norm() + 1e-8
        if 0 < most < norm:
            skew = skew * (most / norm)
        one = torch.eye(skew.shape[-1], device=device)
        return (one + skew) @ torch.linalg.inv(one - skew)

    @staticmethod
    def _butterfly(turns: Tensor, rows: Tensor) -> Tensor:
        half = turns.shape[-1] // 2
        for stage, turn in enumerate(turns):
            reach = 2**stage * half  # rows so far apart meet in a block
            shuffled = rows.unflatten(0, (-1, 2, reach)).transpose(1, 2).flatten(0, 2)
            rows = _turn(turn, shuffled).unflatten(0, (-1, reach, 2)).transpose(1, 2).flatten(0, 2)
        return rows


def _turn(blocks: Tensor, rows: Tensor) -> Tensor:
    """Each block times its rows: (n, b, b) and (n * b, width) -> (n * b, width)."""
    return (blocks @ rows.unflatten(0, (blocks.shape[0], -1))).flatten(0, 1)
