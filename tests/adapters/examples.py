"""Random adapters and modules that the tests share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lorastyle.adapters import Adapter, LowRank

UNET = "down_blocks.0.attentions.0.transformer_blocks.0"
SHAPES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "unet": {
        f"{UNET}.attn1.to_q": (24, 20),
        f"{UNET}.attn1.to_out.0": (24, 20),
        f"{UNET}.attn2.to_k": (24, 768),
        f"{UNET}.ff.net.0.proj": (48, 20),
        "down_blocks.0.attentions.0.proj_in": (24, 24, 1, 1),
        "down_blocks.0.resnets.0.conv1": (24, 20, 3, 3),
        "mid_block.resnets.0.time_emb_proj": (12, 16),  # in the model, not in the adapter
    },
    "text_encoder": {
        "encoder.layers.0.self_attn.q_proj": (16, 16),
        "encoder.layers.0.mlp.fc1": (32, 16),
    },
}
RANKS_ALPHAS = ((4, 4.0), (2, 1.0), (8, 3.0), (4, 4.0), (3, 0.5), (5, 10.0), (4, 2.0), (2, 2.0))


def low_rank(shape: tuple[int, ...], rank: int, alpha: float, seed: int = 0) -> LowRank:
    """Random factors for a Linear weight (out, in) or a Conv2d weight (out, in, height, width)."""
    random = torch.Generator().manual_seed(seed)
    up_shape = (shape[0], rank) if len(shape) == 2 else (shape[0], rank, 1, 1)
    return LowRank(
        down=torch.randn(rank, *shape[1:], generator=random) / 4,
        up=torch.randn(up_shape, generator=random) / 8,
        alpha=alpha,
    )


def mixed_adapter(name: str = "mixed", *, seed: int = 0) -> Adapter:
    """Linear, 1x1 and 3x3 convolutions and a text encoder, of mixed ranks and alphas."""
    settings = iter(RANKS_ALPHAS)
    components: dict[str, dict[str, LowRank]] = {}
    for component, shapes in SHAPES.items():
        for i, (path, shape) in enumerate(shapes.items()):
            if "time_emb" not in path:
                rank, alpha = next(settings)
                components.setdefault(component, {})[path] = low_rank(shape, rank, alpha, 100 * seed + i)
    return Adapter(name, components, {"lorastyle.trigger": "zkx", "lorastyle.base": "sd1"})


def dense(update: LowRank) -> Tensor:
    """The delta from first principles: one loop over rank-one terms, in float64."""
    total = torch.zeros(update.shape, dtype=torch.float64)
    for r in range(update.down.shape[0]):
        column = update.up[:, r].reshape(-1, *[1] * (len(update.shape) - 1)).double()
        total += column * update.down[r].double()[None]
    return total * (update.alpha / update.down.shape[0])


def relative_error(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())
