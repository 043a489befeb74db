"""Which of many numbers of one kind stick out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import TypeVar

Name = TypeVar("Name")

FEWEST = 8  # of fewer there is no telling what is usual
MOST_SCORE = 3.5
TIMES = 3.0


def sticking_out(sizes: Mapping[Name, float]) -> dict[Name, float]:
    """{name: how many times the median} of the sizes that are far above the others, the largest first.

    The rule is the modified z-score of Iglewicz & Hoaglin (1993, "How to detect and handle outliers"), over
    3.5, of the logarithms: what is usual among sizes is a factor. At least three times the median as well,
    for there are adapters whose modules are all but equal. Zeros count as nothing.
    """
    logs = {name: math.log(size) for name, size in sizes.items() if size > 0}
    if len(logs) < FEWEST:
        return {}
    middle = median(logs.values())
    spread = median(abs(value - middle) for value in logs.values())
    most = max(middle + MOST_SCORE / 0.6745 * spread, middle + math.log(TIMES))
    found = {name: math.exp(value - middle) for name, value in logs.items() if value > most}
    return dict(sorted(found.items(), key=lambda item: -item[1]))
