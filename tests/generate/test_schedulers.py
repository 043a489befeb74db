"""Schedulers by name: each is what it says, on every base."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from lorastyle.bases import StableDiffusion
from lorastyle.errors import ConfigError
from lorastyle.generate import SCHEDULERS, AdapterUse, Engine, GenerateRequest
from lorastyle.generate.schedulers import build_scheduler, check_steps, name_of
from tests.tiny import tiny_pipeline

from .test_engine import REQUEST, pixels, same

MakeAdapter = Callable[..., Path]


def test_every_scheduler_draws_a_picture_of_its_own(engine: Engine) -> None:
    drawn = {name: engine.generate(replace(REQUEST, scheduler=name, steps=5))[0] for name in SCHEDULERS}
    assert len({picture.image.tobytes() for picture in drawn.values()}) == len(SCHEDULERS)
    assert same(drawn["ddim"], engine.generate(replace(REQUEST, steps=5))[0])


def test_schedulers_on_a_zero_snr_base() -> None:
    pipe = tiny_pipeline()
    pipe.scheduler = type(pipe.scheduler).from_config(
        pipe.scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    engine = Engine(StableDiffusion(pipe, dtype=torch.float32))
    for name in SCHEDULERS:
        assert np.ptp(pixels(engine.generate(replace(REQUEST, scheduler=name, steps=4))[0])) > 20, name


def test_an_adapter_for_few_steps_brings_its_scheduler(engine: Engine, make_adapter: MakeAdapter) -> None:
    few, other = make_adapter("lcm-lora-sdv1-5"), make_adapter("welcmate")
    with pytest.warns(UserWarning, match=r"lcm-lora.*4 to 8 steps are enough\. .* for 30"):
        drawn = engine.generate(GenerateRequest("a cat", seed=1, adapters=(AdapterUse(str(few)),)))[0]
    assert (drawn.request.scheduler, drawn.request.guidance) == ("lcm", 1.0)
    named = GenerateRequest(
        "a cat", seed=1, steps=4, scheduler="ddim", guidance=2, adapters=(AdapterUse(str(few)),)
    )
    assert engine.generate(named)[0].request.scheduler == "ddim"
    for use in (AdapterUse(str(few), 0), AdapterUse(str(other))):
        request = engine.generate(GenerateRequest("a cat", seed=1, steps=4, adapters=(use,)))[0].request
        assert (request.scheduler, request.guidance) == ("ddim", 5.0)


def test_a_scheduler_is_what_its_name_says_whatever_the_base_has_set() -> None:
    pipe = tiny_pipeline()
    config = {**pipe.scheduler.config, "clip_sample": True, "use_karras_sigmas": True}
    own = DPMSolverMultistepScheduler.from_config({**config, "algorithm_type": "sde-dpmsolver++"})
    found = {name: build_scheduler(name, own) for name in SCHEDULERS}
    for name, scheduler in found.items():
        understood = inspect.signature(type(scheduler).__init__).parameters
        options = {key: value for key, value in scheduler.config.items() if key in understood}
        assert bool(options.get("use_karras_sigmas")) == name.endswith("karras"), name
        assert (options.get("algorithm_type") == "sde-dpmsolver++") == ("sde" in name), name
    assert not found["ddim"].config["clip_sample"] and not found["lcm"].config["clip_sample"]
    assert name_of(own) == "dpm++ 2m sde karras"
    assert all(name_of(build_scheduler(name, own)) == name for name in SCHEDULERS)


def test_every_scheduler_ends_in_pure_noise_where_the_base_does() -> None:
    pipe = tiny_pipeline()
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, rescale_betas_zero_snr=True)
    expected = StableDiffusion(pipe).alphas_cumprod
    for name in SCHEDULERS:
        kept = build_scheduler(name, pipe.scheduler).alphas_cumprod
        torch.testing.assert_close(kept[:-1], expected[:-1], atol=1e-4, rtol=1e-3)
        assert float(kept[-1]) < 1e-4, name
    plain = tiny_pipeline().scheduler
    assert float(build_scheduler("heun", plain).alphas_cumprod[-1]) > 1e-3


def test_lcm_has_no_more_steps_than_its_teacher(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="steps is 60; this scheduler takes at most 50"):
        engine.generate(replace(REQUEST, scheduler="lcm", steps=60))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_every_scheduler_takes_few_steps(engine: Engine, steps: int) -> None:
    for name in SCHEDULERS:
        assert engine.generate(replace(REQUEST, scheduler=name, steps=steps))[0].request.steps == steps


def test_more_steps_than_there_are_is_an_error() -> None:
    config = {"num_train_timesteps": 1000, "steps_offset": 1}
    leading = DDIMScheduler(**config, timestep_spacing="leading")  # type: ignore[arg-type]
    trailing = DDIMScheduler(**config, timestep_spacing="trailing")  # type: ignore[arg-type]
    for scheduler, most in ((leading, 999), (trailing, 1000)):
        check_steps(scheduler, most)
        scheduler.set_timesteps(most)
        assert int(scheduler.timesteps.max()) < 1000
        with pytest.raises(ConfigError, match=f"at most {most}"):
            check_steps(scheduler, most + 1)
