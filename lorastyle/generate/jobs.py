"""The single images of requests that are drawn in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from .conditioning import Script
from .request import GenerateRequest


@dataclass(frozen=True, eq=False)
class Job:
    """One image of a batch: its request's number, the request that draws just it, and its words."""

    number: int
    request: GenerateRequest
    words: Script


def jobs_of(number: int, request: GenerateRequest, words: Script) -> list[Job]:
    """A job for each image of a complete request."""
    first = cast(int, request.seed)
    seeds = range(first, first + request.number)
    return [Job(number, replace(request, seed=seed, number=1), words) for seed in seeds]


def alike_in_length(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs with as many chunks of words each, which a batch needs: filling up a prompt would change it."""
    found: dict[int, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.words.length, []).append(job)
    return list(found.values())
