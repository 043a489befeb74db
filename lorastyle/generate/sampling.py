"""From noise to latents: the sampling loop, with guidance, a picture to start from, and a mask.

Classifier-free guidance is Ho and Salimans 2022 (arXiv:2207.12598); starting from a picture is SDEdit (Meng
et al. 2022, arXiv:2108.01073); keeping what lies outside a mask is Avrahami et al. 2022 (arXiv:2206.02779).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lorastyle.bases import PromptEmbeds, StableDiffusion

from .conditioning import Words


@dataclass(frozen=True, eq=False)
class Step:
    """One step that was taken.

    Attributes:
        done, total: how many were taken, of how many.
        latents: what it led to, (b, c, h, w).
        estimate: works out the latents as they would be without the noise, (b, c, h, w), as the UNet knows
            them. A callback may ask for it while it is called.
    """

    done: int
    total: int
    latents: Tensor
    estimate: Callable[[], Tensor]


OnLatents = Callable[[Step], None]


@dataclass(frozen=True, eq=False)
class Start:
    """A picture to start from.

    Attributes:
        latents: of the picture, (b or 1, c, h, w).
        strength: share of the steps that are taken, above 0 up to 1; 1 leaves nothing of the picture.
        mask: (1, 1, h, w), 1 where it is drawn anew, 0 where the picture stays; None is everywhere.
        concat: (1, 1 + c, h, w), mask and masked picture as an inpainting base reads them itself; None lets
            it draw everything anew.
    """

    latents: Tensor
    strength: float
    mask: Tensor | None = None
    concat: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Around:
    """Another drawing, which stays as it is outside of a part.

    Attributes:
        inside: (1, 1, h, w), 1 where it is drawn anew, 0 where the other one stays.
        path: its latents (b, c, h, w) after each step, which are as many.
    """

    inside: Tensor
    path: Sequence[Tensor]


def steps_taken(steps: int, strength: float) -> int:
    """How many of `steps` are taken from a picture."""
    return min(int(steps * strength + 1e-9), steps)


def timetable(
    scheduler: Any, steps: int, strength: float = 1.0, device: torch.device | str = "cpu"
) -> Tensor:
    """Set a scheduler to `steps`; the timesteps that it takes from a picture, (n,), which may be more than
    the steps: Heun asks twice for each.
    """
    scheduler.set_timesteps(steps, device=device)
    skipped = (steps - steps_taken(steps, strength)) * scheduler.order
    if type(scheduler).__name__ == "PNDMScheduler" and skipped:
        # It takes its second timestep twice, wherever it begins, and counts instead of looking.
        left = list(dict.fromkeys(scheduler.timesteps.tolist()))[skipped:]
        return torch.tensor([*left[:2], *left[1:]], device=device)
    if hasattr(scheduler, "set_begin_index"):  # the others find their place by the timestep
        scheduler.set_begin_index(skipped)
    return scheduler.timesteps[skipped:]


@torch.no_grad()
def denoise(
    base: StableDiffusion,
    words: PromptEmbeds,
    unwanted: PromptEmbeds,
    scheduler: Any,
    generators: Sequence[torch.Generator],
    size: tuple[int, int],
    *,
    steps: int,
    guidance: float,
    guidance_rescale: float = 0.0,
    start: Start | None = None,
    around: Around | None = None,
    voices: int = 1,
    words_at: Callable[[int, int], Words] | None = None,
    before_step: Callable[[int, int], object] | None = None,
    on_step: OnLatents | None = None,
) -> Tensor:
    """Latents (b, c, height/8, width/8), as the UNet knows them.

    Args:
        words, unwanted: of b prompts and b negatives, or of b for each of the voices.
        scheduler: a fresh one; see `build_scheduler`.
        generators: b CPU generators, one for each picture's noise.
        size: (height, width) in pixels.
        guidance: at 1 and below, `unwanted` is not asked for, unless prompts are composed.
        voices: how often the UNet is asked about each picture, by words and rows of its batch that differ;
            the answers are averaged.
        words_at: what is read at a call of the UNet instead of `words` and `unwanted`, asked as (its number
            from 0, how many there are), where prompts change by step or are composed.
        before_step: called before each step as (its number from 0, how many there are).
        on_step: called after each step; what it raises ends the loop.
    """
    device = base.device
    grid = (base.latent_channels, *(side // base.pixels_per_latent for side in size))
    noise = torch.stack([torch.randn(grid, generator=generator) for generator in generators]).to(device)
    times = timetable(scheduler, steps, 1.0 if start is None else start.strength, device)
    picture = None if start is None else start.latents.to(noise).expand_as(noise)
    if start is None or picture is None:
        latents = noise * scheduler.init_noise_sigma
    else:
        whole = steps_taken(steps, start.strength) == steps
        latents = (
            noise * scheduler.init_noise_sigma if whole else scheduler.add_noise(picture, noise, times[:1])
        )
    reads, embeds = Words((words,), unwanted), None
    concat = _concat(base, size, start)
    chance = _random_steps(scheduler, list(generators))

    with base.placement.using("unet"):  # once for all steps
        for i, t in enumerate(times):
            if before_step is not None:
                before_step(i, len(times))
            now = reads if words_at is None else words_at(i, len(times))
            if embeds is None or now is not reads:
                reads, embeds = now, now.asked(guidance)
            x = scheduler.scale_model_input(torch.cat([latents] * voices * reads.sides(guidance)), t)
            answer = base.predict(x, t.expand(len(x)), embeds, concat=concat)
            answer = reads.answer(answer, guidance, guidance_rescale)
            answer = answer.unflatten(0, (voices, -1)).mean(0) if voices > 1 else answer
            latents = scheduler.step(answer, t, latents, return_dict=False, **chance)[0]
            if picture is not None and start is not None and start.mask is not None:
                last = i + 1 == len(times)
                kept = picture if last else scheduler.add_noise(picture, noise, times[i + 1][None])
                latents = torch.lerp(kept, latents, start.mask.to(latents))
            if around is not None:
                latents = torch.lerp(around.path[i], latents, around.inside.to(latents))
            if on_step is not None:
                shown = x[-len(latents) :], answer, t, None if start is None else start.mask
                on_step(Step(i + 1, len(times), latents, partial(_estimate, base, picture, *shown)))
    return latents


def _estimate(
    base: StableDiffusion,
    picture: Tensor | None,
    shown: Tensor,
    answer: Tensor,
    t: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """What the UNet takes for the noise-free latents of `shown`; around a mask, the picture's own."""
    clean = base.noise_free(shown, answer, t)
    return clean if picture is None or mask is None else torch.lerp(picture, clean, mask.to(clean))


def _concat(base: StableDiffusion, size: tuple[int, int], start: Start | None) -> Tensor | None:
    """What an inpainting base reads beside the latents. Without a mask all of a grey picture is to be drawn,
    which it was trained on as well.
    """
    if not base.inpainting:
        return None
    if start is not None and start.concat is not None:
        return start.concat
    return base.inpaint_concat(torch.zeros(1, 3, *size), torch.ones(1, 1, *size))


def _random_steps(scheduler: Any, generators: list[torch.Generator]) -> dict[str, Any]:
    """Where a scheduler adds noise of its own, it comes from each picture's generator too."""
    return {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
