"""How adapters that are used together get in each other's way: the angles between their updates, and what
their sum weighs.

The inner product of two updates is tr(A_i A_j^T B_j^T B_i), so angles and norms need the factors alone:
O(R^2 (in + out)) for each module, R being all ranks together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorastyle.errors import AdapterError

from .block_weights import BLOCKS, block_name
from .load import Modules
from .merging import Place, Weighted, Weights, check_parts, places

Gram = tuple[tuple[float, ...], ...]
"""Inner products of every adapter's update with every other's, at a scale of 1: (adapters, adapters)."""


@dataclass(frozen=True)
class Interference:
    """What several adapters have in common.

    Attributes:
        names, scales: of the adapters, as they are used together.
        text_scales: those on the text encoders, whose block is BASE; `scales` are those on the UNet.
        blocks: {block: inner products there}, of blocks that one of them changes; see `block_name`.
    """

    names: tuple[str, ...]
    scales: tuple[float, ...]
    text_scales: tuple[float, ...]
    blocks: Mapping[str, Gram]

    def gram(self, block: str | None = None) -> Gram:
        """The inner products in a block; None is everywhere."""
        if block is not None:
            return self.blocks[block]
        count = range(len(self.names))
        return tuple(tuple(sum(g[i][j] for g in self.blocks.values()) for j in count) for i in count)

    def cosine(self, first: int, second: int, block: str | None = None) -> float | None:
        """Of the angle between two updates: 1 the same direction, 0 nothing in common, -1 opposite ones. None
        where one of the two changes nothing.
        """
        gram = self.gram(block)
        norms = math.sqrt(gram[first][first] * gram[second][second])
        return max(-1.0, min(1.0, gram[first][second] / norms)) if norms else None

    def scales_of(self, adapter: int) -> dict[str, float]:
        """One adapter's scale, and that on the text encoders where it is another."""
        scale, te = self.scales[adapter], self.text_scales[adapter]
        return {"scale": scale} if te == scale else {"scale": scale, "te": te}

    def norm(self, adapter: int, block: str | None = None) -> float:
        """The Frobenius norm of one adapter's update at a scale of 1."""
        return math.sqrt(self.gram(block)[adapter][adapter])

    def stack_norm(self, block: str | None = None) -> float:
        """The Frobenius norm of the sum at these scales."""
        count, square = range(len(self.names)), 0.0
        for name in self.blocks if block is None else (block,):
            gram, s = self.blocks[name], self.text_scales if name == "BASE" else self.scales
            square += sum(s[i] * s[j] * gram[i][j] for i in count for j in count)
        return math.sqrt(max(square, 0.0))

    def overcooking(self, block: str | None = None) -> float:
        """The norm of the sum at these scales, over that of the strongest adapter alone at a scale of 1.

        Of adapters of one strength at 1: 1 as for one of them, 1.41 for two that have nothing in common, 2
        for two that do the same.
        """
        strongest = max(self.norm(i, block) for i in range(len(self.names)))
        return self.stack_norm(block) / strongest if strongest else 0.0

    def balance(self) -> float:
        """The factor for all scales with which the sum weighs as much as the strongest adapter alone.

        Raises:
            AdapterError: they cancel each other.
        """
        over = self.overcooking()
        if over < 1e-6:
            raise AdapterError("At these scales the adapters cancel each other, so no factor balances them.")
        return 1 / over

    def balanced(self) -> Interference:
        """The same adapters at their scales times `balance()`."""
        factor = self.balance()
        scales, text = (tuple(factor * s for s in own) for own in (self.scales, self.text_scales))
        return replace(self, scales=scales, text_scales=text)

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        count = range(len(self.names))
        factor = self.balance() if self.overcooking() >= 1e-6 else None
        return {
            "adapters": [{"name": self.names[i], **self.scales_of(i), "norm": self.norm(i)} for i in count],
            "overcooking": self.overcooking(),
            "balance": factor,
            "balanced": None if factor is None else [factor * scale for scale in self.scales],
            "cosine": [[self.cosine(i, j) for j in count] for i in count],
            "blocks": {
                block: {
                    "overcooking": self.overcooking(block),
                    "cosine": [[self.cosine(i, j, block) for j in count] for i in count],
                }
                for block in self.blocks
            },
        }


def measure_interference(
    parts: Sequence[Weighted], *, modules: Modules | None = None, weights: Weights | None = None
) -> Interference:
    """Compare adapters that are to be used together. Norm layers and biases are left out.

    Where all updates of a module are low rank no dense matrix is formed; others are, one module at a time.

    Args:
        parts: two at least; block factors belong to the adapter, so they hold at a scale of 1 too.
        modules, weights: as for `merge`.

    Raises:
        AdapterError, BaseMismatchError: as for `merge`; or fewer than two adapters.
    """
    if len(parts) < 2:
        raise AdapterError("Name at least two adapters.")
    check_parts(parts)
    ones = [replace(part, scale=1.0, te=None, unet=None) for part in parts]
    blocks: dict[str, Tensor] = {}
    for place in places(ones, modules):
        if not place.is_vector:
            products = _products(place, len(parts), weights)
            block = block_name(place.component, place.path)
            blocks[block] = blocks[block] + products if block in blocks else products
    named = sorted(blocks, key=BLOCKS.index)
    grams = {block: tuple(map(tuple, blocks[block].tolist())) for block in named}
    scales, text = (tuple(part.scale_on(on) for part in parts) for on in ("unet", "text_encoder"))
    return Interference(tuple(part.adapter.name for part in parts), scales, text, grams)


def _products(place: Place, count: int, weights: Weights | None) -> Tensor:
    """Inner products of the updates of one module: (count, count), in float64."""
    if place.is_low_rank:
        terms = [(c.part, c.factor, c.low_rank) for c in place.changes if c.low_rank is not None]
        up = torch.cat([factor * u.scale * u.up.double().flatten(1) for _, factor, u in terms], dim=1)
        down = torch.cat([u.down.double().flatten(1) for _, _, u in terms])
        products = (up.T @ up) * (down @ down.T)
        owners = [part for part, _, u in terms for _ in range(u.rank)]
    else:
        rows = torch.stack([matrix.flatten() for matrix in place.matrices(weights)]).double()
        products = rows @ rows.T
        owners = [change.part for change in place.changes if change.matrix]
    belongs = torch.nn.functional.one_hot(torch.tensor(owners), count).double()
    return belongs.T @ products @ belongs
