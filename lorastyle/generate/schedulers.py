"""Schedulers by the names people use, as diffusers classes built from the base's own noise schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lorastyle.errors import ConfigError


@dataclass(frozen=True)
class Scheduler:
    """A diffusers class, the options that make it this scheduler, and its name in A1111's text."""

    kind: str
    sampler: str
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    schedule_type: str | None = None


SCHEDULERS: Mapping[str, Scheduler] = {
    "ddim": Scheduler("DDIMScheduler", "DDIM"),
    "euler": Scheduler("EulerDiscreteScheduler", "Euler"),
    "euler a": Scheduler("EulerAncestralDiscreteScheduler", "Euler a"),
    "heun": Scheduler("HeunDiscreteScheduler", "Heun"),
    "euler karras": Scheduler(
        "EulerDiscreteScheduler", "Euler", {"use_karras_sigmas": True}, schedule_type="Karras"
    ),
    "dpm++ 2m": Scheduler("DPMSolverMultistepScheduler", "DPM++ 2M"),
    "dpm++ 2m karras": Scheduler(
        "DPMSolverMultistepScheduler", "DPM++ 2M", {"use_karras_sigmas": True}, schedule_type="Karras"
    ),
    "dpm++ 2m sde": Scheduler(
        "DPMSolverMultistepScheduler", "DPM++ 2M SDE", {"algorithm_type": "sde-dpmsolver++"}
    ),
    "dpm++ 2m sde karras": Scheduler(
        "DPMSolverMultistepScheduler",
        "DPM++ 2M SDE",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
        schedule_type="Karras",
    ),
    "unipc": Scheduler("UniPCMultistepScheduler", "UniPC"),
    # PLMS is PNDM without its Runge-Kutta steps, which need at least four.
    "pndm": Scheduler("PNDMScheduler", "PLMS", {"skip_prk_steps": True}),
    # For bases or adapters distilled to few steps (Luo et al. 2023, arXiv:2310.04378).
    "lcm": Scheduler("LCMScheduler", "LCM"),
}

_ALIASES = {
    "euler ancestral": "euler a",
    "dpm++": "dpm++ 2m",
    "dpm++2m": "dpm++ 2m",
    "plms": "pndm",
}


def scheduler_name(word: str) -> str | None:
    """The name in SCHEDULERS that `word` means ("DPM++ 2M", "dpmpp_2m", "k_euler_a"), or None."""
    plain = " ".join(word.lower().replace("_", " ").replace("-", " ").replace("dpmpp", "dpm++").split())
    plain = plain.removeprefix("k ")
    plain = _ALIASES.get(plain, plain)
    return plain if plain in SCHEDULERS else None


def name_of(scheduler: Any) -> str | None:
    """The name in SCHEDULERS of a diffusers scheduler, or None where none describes it."""
    kind = type(scheduler).__name__
    for name, known in reversed(list(SCHEDULERS.items())):
        if known.kind == kind and all(
            getattr(scheduler.config, k, None) == v for k, v in known.options.items()
        ):
            return name
    return None


def build_scheduler(name: str | None, base_scheduler: Any) -> Any:
    """A fresh scheduler on the base's noise schedule; None keeps the base's own kind."""
    import diffusers

    if name is None:
        return type(base_scheduler).from_config(base_scheduler.config)
    known = SCHEDULERS[name]
    return getattr(diffusers, known.kind).from_config(base_scheduler.config, **known.options)


def check_steps(scheduler: Any, steps: int) -> None:
    """Can the scheduler take as many steps?

    Raises:
        ConfigError: it cannot; with how many it can. "Leading" spacing adds steps_offset to every timestep,
            which pushes the first of the largest count beyond the end of training.
    """
    config = scheduler.config
    leading = getattr(config, "timestep_spacing", "") == "leading"
    most = int(config.num_train_timesteps) - (int(getattr(config, "steps_offset", 0)) if leading else 0)
    if steps > most:
        raise ConfigError(f"steps is {steps}; this base's scheduler takes at most {most}.")
