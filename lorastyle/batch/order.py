"""In which order pictures are drawn, so that little is loaded twice, and how shards divide them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lorastyle.errors import ConfigError
from lorastyle.generate import GenerateRequest

from .expand import Item


def order(items: Iterable[Item]) -> list[Item]:
    """By base, then adapters, then their scales, then size; each group where its first item stands, and items
    of a group in their own order.
    """
    ranks: dict[tuple[object, ...], int] = {}
    keyed: list[tuple[tuple[int, ...], Item]] = []
    for item in items:
        asked = item.request
        levels = (
            asked.base,
            frozenset(use.name for use in asked.adapters),
            tuple((use.name, use.scale, str(use)) for use in asked.adapters),
            (asked.width, asked.height, asked.hires),
        )
        rank = tuple(ranks.setdefault(levels[: i + 1], len(ranks)) for i in range(len(levels)))
        keyed.append(((*rank, item.index), item))
    return [item for _, item in sorted(keyed, key=lambda pair: pair[0])]


def cost(request: GenerateRequest) -> float:
    """What a picture costs to draw, beside others; a size that is left open counts as 512 x 512."""
    pixels = (request.width or 512) * (request.height or 512)
    passes = request.steps * (1.0 if request.strength is None else request.strength)
    if request.hires > 1:
        passes += request.steps * (request.hires_strength or 0.4) * request.hires**2
    if request.combine == "composite":
        passes *= max(1, len(request.adapters))
    elif any(use.mask or use.words for use in request.adapters):
        passes *= 2  # it is drawn without them, too
    return pixels * passes * (1 if request.guidance is not None and request.guidance <= 1 else 2)


def parse_shard(text: str) -> tuple[int, int]:
    """`2/4` -> (2, 4). Raises ConfigError."""
    found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count:
        raise ConfigError(f'--shard is "{text}"; write which of how many, such as 1/4; the last is 4/4.')
    return number, count


def shard(items: Sequence[Item], number: int, count: int) -> list[Item]:
    """The `number`-th of `count` runs of `items` (ordered), about equally costly, counted from 1.

    Runs of neighbours share bases and adapters, so at most count - 1 groups are loaded twice. Every item is
    in exactly one shard, provided that all of them expand the same manifest with the same base.
    """
    total = sum(cost(item.request) for item in items) or 1.0
    before, chosen = 0.0, list[Item]()
    for item in items:
        own = cost(item.request)
        if min(int((before + own / 2) / total * count), count - 1) == number - 1:
            chosen.append(item)
        before += own
    return chosen
