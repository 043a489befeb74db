"""The optimiser and its learning rate: AdamW, one group a component, warm-up, then cosine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from lorastyle.errors import TrainingError


def rate(step: int, steps: int, warmup: int) -> float:
    """What the learning rate is multiplied with at `step` (0 is the first).

    A pure function of the step: a run that is resumed, or resumed with more steps, never sees 0. The first
    step already learns, and cosine falls to a tenth, not to nothing.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def build_optimizer(
    parameters: Mapping[str, Sequence[nn.Parameter]], rates: Mapping[str, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) with one group per component.

    Raises:
        TrainingError: a trainable is not float32; in bfloat16 small steps are rounded away.
    """
    for component, values in parameters.items():
        for value in values:
            if value.dtype != torch.float32:
                raise TrainingError(
                    f"A trainable tensor of {component} is {value.dtype}; all must be float32."
                )
    groups = [
        {"params": list(values), "lr": rates[component], "base_lr": rates[component]}
        for component, values in parameters.items()
    ]
    return torch.optim.AdamW(groups, weight_decay=weight_decay, betas=(0.9, 0.999), eps=1e-8)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group to factor times its own rate; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
