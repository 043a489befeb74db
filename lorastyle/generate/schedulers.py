"""Schedulers by the names people use, as diffusers classes built from the base's own noise schedule."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from lorastyle.errors import ConfigError


@dataclass(frozen=True)
class Scheduler:
    """A diffusers class, the options that make it this scheduler, and its name in A1111's text."""

    kind: str
    sampler: str
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    schedule_type: str | None = None


_PLAIN = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
}
_KARRAS = {**_PLAIN, "use_karras_sigmas": True}
_SDE = {"algorithm_type": "sde-dpmsolver++"}
_ODE = {"algorithm_type": "dpmsolver++"}
_UNCLIPPED = {"clip_sample": False, "thresholding": False}  # latents know no bounds

# Every option that tells two of them apart is stated, whatever the base's own config says.
SCHEDULERS: Mapping[str, Scheduler] = {
    "ddim": Scheduler("DDIMScheduler", "DDIM", _UNCLIPPED),
    "euler": Scheduler("EulerDiscreteScheduler", "Euler", _PLAIN),
    "euler a": Scheduler("EulerAncestralDiscreteScheduler", "Euler a"),
    "euler karras": Scheduler("EulerDiscreteScheduler", "Euler", _KARRAS, schedule_type="Karras"),
    "heun": Scheduler("HeunDiscreteScheduler", "Heun", {**_PLAIN, "clip_sample": False}),
    "dpm++ 2m": Scheduler("DPMSolverMultistepScheduler", "DPM++ 2M", {**_PLAIN, **_ODE}),
    "dpm++ 2m karras": Scheduler(
        "DPMSolverMultistepScheduler", "DPM++ 2M", {**_KARRAS, **_ODE}, schedule_type="Karras"
    ),
    "dpm++ 2m sde": Scheduler("DPMSolverMultistepScheduler", "DPM++ 2M SDE", {**_PLAIN, **_SDE}),
    "dpm++ 2m sde karras": Scheduler(
        "DPMSolverMultistepScheduler", "DPM++ 2M SDE", {**_KARRAS, **_SDE}, schedule_type="Karras"
    ),
    "unipc": Scheduler("UniPCMultistepScheduler", "UniPC", _PLAIN),
    # PLMS is PNDM without its Runge-Kutta steps, which need at least four.
    "pndm": Scheduler("PNDMScheduler", "PLMS", {"skip_prk_steps": True}),
    # For bases or adapters distilled to few steps (Luo et al. 2023, arXiv:2310.04378).
    "lcm": Scheduler("LCMScheduler", "LCM", _UNCLIPPED),
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
    for name, known in SCHEDULERS.items():
        options = _understood(type(scheduler), known.options)
        if known.kind == kind and all((scheduler.config.get(k) or False) == v for k, v in options.items()):
            return name
    return None


def build_scheduler(name: str | None, base_scheduler: Any) -> Any:
    """A fresh scheduler on the base's noise schedule; None keeps the base's own kind."""
    import diffusers

    if name is None:
        return type(base_scheduler).from_config(base_scheduler.config)
    known = SCHEDULERS[name]
    kind = getattr(diffusers, known.kind)
    options = dict(_understood(kind, known.options))
    zero_snr = bool(base_scheduler.config.get("rescale_betas_zero_snr", False))
    if zero_snr and not _understood(kind, {"rescale_betas_zero_snr": True}):
        options["trained_betas"] = _rescaled_betas(base_scheduler.config)
    return kind.from_config(base_scheduler.config, **options)


def _understood(kind: type, options: Mapping[str, object]) -> dict[str, object]:
    """The options that a scheduler's class has."""
    allowed = inspect.signature(kind.__init__).parameters
    return {key: value for key, value in options.items() if key in allowed}


def _rescaled_betas(config: Any) -> list[float]:
    """The betas of a schedule that ends in pure noise, for classes that cannot rescale (Lin et al. 2023,
    arXiv:2305.08891, algorithm 1). The end keeps 2^-24 of the signal, as in diffusers, or sigma is infinite.
    """
    import torch
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    rescaled = cast(Any, DDIMScheduler).from_config(config)
    kept: torch.Tensor = rescaled.alphas_cumprod.double().clamp_min(2**-24)
    before = torch.cat([kept.new_ones(1), kept[:-1]])
    return (1 - kept / before).tolist()


def check_steps(scheduler: Any, steps: int) -> None:
    """Can the scheduler take as many steps?

    Raises:
        ConfigError: it cannot; with how many it can. "Leading" spacing adds steps_offset to every timestep,
            which pushes the first of the largest count beyond the end of training. LCM has only the steps
            that its teacher took.
    """
    config = scheduler.config
    leading = getattr(config, "timestep_spacing", "") == "leading"
    most = int(config.num_train_timesteps) - (int(getattr(config, "steps_offset", 0)) if leading else 0)
    most = min(most, int(getattr(config, "original_inference_steps", None) or most))
    if steps > most:
        raise ConfigError(f"steps is {steps}; this scheduler takes at most {most}.")
