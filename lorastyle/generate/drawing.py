"""The passes that draw one batch: the steps at the size asked for, and the hires pass behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from lorastyle.bases import StableDiffusion

from .conditioning import Script, Words
from .hires import Hires
from .request import GenerateRequest
from .sampling import Around, Start, Step, denoise, timetable
from .schedulers import build_scheduler, check_steps

Path = list[Tensor]
"""The latents (b, c, h, w) after each step of a pass."""

Grid = tuple[int, int]
"""(height, width) of latents."""


def nowhere(grid: Grid) -> AbstractContextManager[Tensor | None]:
    """No adapter is confined to a part of the picture."""
    return nullcontext()


@dataclass(frozen=True, eq=False)
class Drawing:
    """A batch of pictures of one request.

    Attributes:
        words: what is read for b pictures.
        seeds: b of them, of each picture's noise.
        start: what the first pass starts from; None is noise.
        hires: the second pass; None where there is none.
        voices: how often the UNet is asked about each picture; `words` are then of b for each of them.
        apart: what parts of the picture read, for b pictures each.
        readings: the embeddings of each of these at the step that is being drawn, in the batch of the UNet;
            filled before each step.
    """

    base: StableDiffusion
    request: GenerateRequest
    words: Script
    seeds: Sequence[int]
    start: Start | None = None
    hires: Hires | None = None
    voices: int = 1
    apart: Sequence[Script] = ()
    readings: list[Tensor] = field(default_factory=list[Tensor])

    @property
    def grid(self) -> Grid:
        """Of the latents of the first pass."""
        height, width = cast(int, self.request.height), cast(int, self.request.width)
        return height // self.base.pixels_per_latent, width // self.base.pixels_per_latent

    @property
    def steps(self) -> int:
        """How often the UNet is asked, which is more often than there are steps for some schedulers."""
        first = self._timesteps(self.start.strength if self.start else 1.0)
        return first + (0 if self.hires is None else self._timesteps(self.hires.strength))

    def run(
        self,
        before_step: Callable[[int, int], object],
        on_step: Callable[[Step], None],
        *,
        within: Callable[[Grid], AbstractContextManager[Tensor | None]] = nowhere,
        outside: Sequence[Path] = (),
        record: bool = False,
    ) -> list[Path]:
        """Draw it: for each pass the latents after its last step, or with `record` after each.

        Args:
            before_step: called as (number of the step in its pass, how many it has).
            on_step: called after each step, counted over all passes.
            within: what confines adapters while a pass draws latents of that grid. It yields (1, 1, h, w), 1
                where an adapter is confined to, or None for everywhere.
            outside: of the same drawing without these adapters, which stays as it is elsewhere.
        """
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        steps, done, paths = self.steps, 0, list[Path]()

        def look(step: Step) -> None:
            if not record:
                paths[-1].clear()
            paths[-1].append(step.latents)
            on_step(replace(step, done=done + step.done, total=steps))

        def draw(size: tuple[int, int], start: Start | None) -> None:
            number = len(paths)
            kept = outside[number] if outside else None
            paths.append([])
            first = self._read(number, 0, 1)
            height, width = (side // self.base.pixels_per_latent for side in size)
            with within((height, width)) as inside:
                denoise(
                    self.base,
                    first.wanted[0],
                    first.unwanted,
                    build_scheduler(self.request.scheduler, self.base.pipe.scheduler),
                    generators,
                    size,
                    steps=self.request.steps,
                    guidance=cast(float, self.request.guidance),
                    guidance_rescale=cast(float, self.request.guidance_rescale),
                    start=start,
                    around=None if kept is None or inside is None else Around(inside, kept),
                    voices=self.voices,
                    words_at=partial(self._read, number),
                    before_step=before_step,
                    on_step=look,
                )

        draw((cast(int, self.request.height), cast(int, self.request.width)), self.start)
        if self.hires is not None:
            done = self._timesteps(self.start.strength if self.start else 1.0)
            draw(self.hires.size, self.hires.start(paths[0][-1]))
        return paths

    def _read(self, number: int, call: int, calls: int) -> Words:
        """What is read at a call of the UNet in the pass of that number; `readings` are of the same step."""
        guidance = cast(float, self.request.guidance)
        self.readings[:] = [one.at(number, call, calls).asked(guidance).tokens for one in self.apart]
        return self.words.at(number, call, calls)

    def _timesteps(self, strength: float) -> int:
        scheduler = build_scheduler(self.request.scheduler, self.base.pipe.scheduler)
        check_steps(scheduler, self.request.steps)
        return len(timetable(scheduler, self.request.steps, strength))
