"""K-LoRA: in each layer either the subject's update acts or the style's (Ouyang et al. 2025,
arXiv:2502.18461).

Of a layer's two updates the one with the larger sum of its K largest numbers (K = rank * rank, without signs)
is taken. The style's sum is multiplied by gamma, which makes the two adapters equally strong on the whole,
and by 1.5 p + 0.5, which grows with the share p of the steps that is done. So the sums are compared once, and
what a layer does is one number: the share of the steps after which it goes over from subject to style.
"""

from __future__ import annotations

import torch

from lorastyle.errors import AdapterError

from .adapter import Adapter

ALPHA, BETA = 1.5, 0.5  # of 1.5 p + 0.5, the paper's


@torch.no_grad()
def turning_points(
    subject: Adapter, style: Adapter, *, component: str = "unet", device: torch.device | str = "cpu"
) -> dict[str, float]:
    """{path: the share of the steps from which the style acts there, and up to which the subject does}, of
    modules that both change. At or below 0 it is the style from the first step, at 1 and above the subject
    to the end.

    Scales have no say: gamma takes them out again. One dense update is formed at a time, in float32.

    Args:
        device: where the sums are worked out.

    Raises:
        AdapterError: the two change no module in common, or one of them changes nothing there.
    """
    own, other = subject.components.get(component, {}), style.components.get(component, {})
    sums: dict[str, tuple[float, float]] = {}
    wholes = [0.0, 0.0]
    for path in [path for path in own if path in other]:
        count = own[path].rank * other[path].rank
        largest: list[float] = []
        for i, update in enumerate((own[path], other[path])):
            numbers = update.to(device).delta().abs().flatten()
            wholes[i] += float(numbers.sum())
            largest.append(float(numbers.topk(min(count, len(numbers)), sorted=False).values.sum()))
        sums[path] = largest[0], largest[1]
    if 0 in wholes:
        raise AdapterError(
            f"{subject.name!r} and {style.name!r} have no module of the {component} that both change, so "
            "there is nothing to choose between. Draw without k-lora: they are added up."
        )
    gamma = wholes[0] / wholes[1]
    return {
        path: ((first / (gamma * second) - BETA) / ALPHA) if second else float("inf")
        for path, (first, second) in sums.items()
    }
