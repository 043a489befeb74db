"""Which requests can be drawn in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .prompt_plan import is_plain
from .request import GenerateRequest
from .uses import AdapterUse


def together(
    requests: Sequence[GenerateRequest], low_rank: Callable[[Sequence[AdapterUse]], bool]
) -> list[list[int]]:
    """The numbers of the requests, in groups that share their steps and differ in words, seeds and adapters.

    Args:
        requests: with nothing left open.
        low_rank: whether adapters are side branches, which each sample can have its own of.

    Returns:
        Groups in the order of their first members; a request that fits no other is alone.
    """
    groups: dict[object, list[int]] = {}
    for number, request in enumerate(requests):
        plain = not any(use.by_step or use.blocks or use.mask or use.words for use in request.adapters)
        alone = request.init is not None or request.hires != 1 or request.combine is not None
        alone = alone or not is_plain(request.prompt, request.negative_prompt)
        fits = plain and not alone and low_rank(request.adapters)
        size, guided = (request.width, request.height), (request.guidance, request.guidance_rescale)
        key = (size, request.steps, request.scheduler, guided) if fits else number
        groups.setdefault(key, []).append(number)
    return list(groups.values())
