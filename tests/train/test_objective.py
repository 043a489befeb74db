"""The loss against its closed forms."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from lorastyle.errors import BaseError
from lorastyle.train.objective import Objective, seeded

SHAPE = (4, 8, 8)


def schedule(*, zero_snr: bool = False) -> Tensor:
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=zero_snr
    )
    return scheduler.alphas_cumprod


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Latents, noise, timesteps from almost clean to almost pure noise."""
    g = seeded("batch")
    t = torch.tensor([0, 1, 250, 600, 998])
    return torch.randn(5, *SHAPE, generator=g), torch.randn(5, *SHAPE, generator=g), t


@pytest.mark.parametrize("zero_snr", [False, True])
def test_v_and_the_noisy_latents_give_back_latents_and_noise(
    batch: tuple[Tensor, Tensor, Tensor], zero_snr: bool
) -> None:
    x0, noise, t = batch
    t = t + 1 if zero_snr else t  # 999: nothing but noise
    objective = Objective(schedule(zero_snr=zero_snr), "v_prediction")
    xt, v = objective.add_noise(x0, noise, t), objective.target(x0, noise, t)
    a = schedule(zero_snr=zero_snr)[t].view(-1, 1, 1, 1)
    signal, amount = a.sqrt(), (1 - a).sqrt()
    assert torch.allclose(signal * xt - amount * v, x0, atol=1e-5)
    assert torch.allclose(amount * xt + signal * v, noise, atol=1e-5)
    assert not torch.allclose(signal * xt + amount * v, x0, atol=1e-2), "the wrong sign must not pass"


def test_targets_agree_with_the_scheduler_that_samples(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    x0, noise, t = batch
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    objective = Objective(scheduler.alphas_cumprod, "v_prediction")
    timesteps = cast(torch.IntTensor, t)  # what diffusers says it takes
    assert torch.allclose(
        objective.add_noise(x0, noise, t), scheduler.add_noise(x0, noise, timesteps), atol=1e-6
    )
    assert torch.allclose(
        objective.target(x0, noise, t), scheduler.get_velocity(x0, noise, timesteps), atol=1e-6
    )
    assert objective.target(x0, noise, t).ne(noise).any()
    assert Objective(scheduler.alphas_cumprod, "epsilon").target(x0, noise, t) is noise


def at_snr(*ratios: float) -> Tensor:
    """A schedule whose timestep i has the i-th signal-to-noise ratio."""
    snr = torch.tensor(ratios, dtype=torch.float64)
    return (snr / (1 + snr)).float()


def test_min_snr_weights_are_the_closed_form() -> None:
    """Hang et al. 2023: min(SNR, 5) / SNR for epsilon, min(SNR, 5) / (SNR + 1) for v."""
    t = torch.arange(4)
    epsilon = Objective(at_snr(0.1, 1, 5, 50), "epsilon", 5.0).weights(t)
    assert torch.allclose(epsilon, torch.tensor([1, 1, 1, 0.1]), rtol=1e-4)
    v = Objective(at_snr(0, 0.1, 5, 50), "v_prediction", 5.0).weights(t)
    assert torch.allclose(v, torch.tensor([0, 0.1 / 1.1, 5 / 6, 5 / 51]), rtol=1e-4)
    # the often copied `min / SNR + 1` is another curve
    assert not torch.allclose(v[1:], torch.tensor([2.0, 2.0, 1.1]), rtol=0.1)
    assert Objective(at_snr(0, 0.1, 5, 50), "v_prediction", 0).weights(t).eq(1).all()


def test_each_sample_is_weighed_by_its_own_timestep(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    x0, noise, t = batch
    objective = Objective(schedule(), "v_prediction")
    prediction = torch.zeros_like(x0)
    together = objective.losses(prediction, objective.target(x0, noise, t), t)
    for i in range(len(t)):
        one = slice(i, i + 1)
        alone = objective.losses(prediction[one], objective.target(x0[one], noise[one], t[one]), t[one])
        torch.testing.assert_close(alone, together[one])
    swapped = objective.losses(prediction, objective.target(x0, noise, t), t.flip(0))
    assert not torch.allclose(swapped, together)


@pytest.mark.parametrize("size", [1, 3])
def test_prior_preservation_is_two_means(size: int) -> None:
    objective = Objective(schedule(), "v_prediction", prior_weight=0.5)
    g = seeded("losses")
    own, of_class = torch.rand(size, generator=g), torch.rand(size, generator=g)
    mask = torch.tensor([False] * size + [True] * size)
    total = objective.total(torch.cat([own, of_class]), mask)
    assert torch.allclose(total, own.mean() + 0.5 * of_class.mean())
    assert not torch.allclose(total, torch.cat([own, of_class]).mean())
    # uneven halves too: one class picture counts as much as the whole of the others
    assert torch.allclose(
        objective.total(torch.cat([own, of_class[:1]]), mask[: size + 1]), own.mean() + 0.5 * of_class[0]
    )


def test_prior_weight_zero_is_no_prior_bit_for_bit() -> None:
    losses = torch.rand(6, generator=seeded("losses")).requires_grad_()
    mask = torch.tensor([False] * 3 + [True] * 3)
    without = losses[:3].mean()
    assert torch.equal(Objective(schedule(), "epsilon", prior_weight=0).total(losses, mask), without)
    assert not torch.equal(Objective(schedule(), "epsilon", prior_weight=0.1).total(losses, mask), without)


def test_randomness_is_a_function_of_seed_step_and_sample() -> None:
    objective = Objective(schedule(), "epsilon")
    alone = objective.draw(0, 7, ["b"], SHAPE)
    among = objective.draw(0, 7, ["a", "b", "c"], SHAPE)
    assert torch.equal(alone.noise[0], among.noise[1])
    assert torch.equal(alone.posterior[0], among.posterior[1])
    assert alone.timesteps[0] == among.timesteps[1]
    assert not torch.equal(alone.noise, alone.posterior)
    for seed, step, sample in ((1, 7, "b"), (0, 8, "b"), (0, 7, "c")):
        assert not torch.equal(objective.draw(seed, step, [sample], SHAPE).noise, alone.noise)
    twice = objective.draw(0, 7, ["b", "b"], SHAPE)
    assert torch.equal(twice.noise[0], alone.noise[0]) and not torch.equal(twice.noise[1], alone.noise[0])


def test_all_timesteps_are_drawn() -> None:
    objective = Objective(schedule(), "epsilon")
    drawn = torch.cat([objective.draw(0, step, ["a"], (1,)).timesteps for step in range(3000)])
    assert drawn.min() < 10 and drawn.max() > 989
    assert abs(float(drawn.float().mean()) - 499.5) < 20


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    Objective(schedule(), "epsilon").draw(0, 0, ["a"], SHAPE)
    assert torch.equal(torch.get_rng_state(), before)


def test_epsilon_without_signal_is_refused() -> None:
    with pytest.raises(BaseError, match="rescale_betas_zero_snr"):
        Objective(schedule(zero_snr=True), "epsilon")
    Objective(schedule(zero_snr=True), "v_prediction")
    Objective(schedule(), "epsilon")
    with pytest.raises(BaseError, match="'sample'"):
        Objective(schedule(), "sample")
