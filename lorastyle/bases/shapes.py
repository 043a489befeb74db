"""How large the weights are that an adapter can change."""

from __future__ import annotations

from torch import nn


def weight_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """{path: shape of the weight} of linear, convolution and norm layers.

    Quantised weights lie packed, so a linear layer's shape is told from its features.
    """
    return {
        path: (layer.out_features, layer.in_features)
        if isinstance(layer, nn.Linear)
        else tuple(layer.weight.shape)
        for path, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
        or (isinstance(layer, (nn.LayerNorm, nn.GroupNorm)) and layer.weight is not None)  # pyright: ignore[reportUnnecessaryComparison]
    }
