"""What training minimises: noise, targets, loss weights, prior preservation.

A picture's latents x0 are mixed with noise, x_t = sqrt(a) x0 + sqrt(1 - a) eps, where a is the base's
`alphas_cumprod` at timestep t. The UNet answers with eps ("epsilon", Ho et al. 2020, arXiv:2006.11239) or
with v = sqrt(a) eps - sqrt(1 - a) x0 ("v_prediction", Salimans and Ho 2022, arXiv:2202.00512). Which one is
read from the base's scheduler, never from a flag.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lorastyle.errors import BaseError

PREDICTION_TYPES = ("epsilon", "v_prediction")


def seeded(*key: object) -> torch.Generator:
    """A CPU generator that is a pure function of the key, such as (seed, step, sample)."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode("utf-8", "surrogatepass")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Draw:
    """The randomness of one batch, on the CPU.

    Attributes:
        timesteps: (b,) int64.
        noise: (b, c, h, w), what the latents are mixed with.
        posterior: (b, c, h, w), which sample of the autoencoder's posterior is taken.
    """

    timesteps: Tensor
    noise: Tensor
    posterior: Tensor


@dataclass(frozen=True)
class Objective:
    """The loss of one batch.

    Args:
        alphas_cumprod: (T,), the base's noise schedule as it is used, zero terminal SNR included.
        prediction_type: "epsilon" or "v_prediction".
        min_snr_gamma: gamma of min-SNR weighting (Hang et al. 2023, arXiv:2303.09556); 0 weighs all alike.
        prior_weight: weight of the mean loss of class pictures; 0 leaves them out.

    Raises:
        BaseError: another prediction type, or "epsilon" on a schedule that ends in pure noise, where eps is
            the input itself and teaches nothing.
    """

    alphas_cumprod: Tensor
    prediction_type: str
    min_snr_gamma: float = 5.0
    prior_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.prediction_type not in PREDICTION_TYPES:
            raise BaseError(
                f"This base predicts {self.prediction_type!r}; "
                f"training knows {' and '.join(PREDICTION_TYPES)}."
            )
        if self.prediction_type == "epsilon" and float(self.alphas_cumprod.min()) <= 0.0:
            raise BaseError(
                "This base predicts epsilon on a schedule whose last step has no signal left (SNR 0), where "
                "epsilon cannot be learnt. Set rescale_betas_zero_snr to false or prediction_type to "
                '"v_prediction" in its scheduler config, whichever it was trained with.'
            )

    def draw(self, seed: int, step: int, samples: Sequence[str], shape: Sequence[int]) -> Draw:
        """Randomness of a step: each sample's depends on (seed, step, sample) alone, not on its neighbours.

        A sample that is in the batch more than once gets fresh noise each time.

        Args:
            samples: one id per sample of the batch.
            shape: of one sample's latents, (c, h, w).
        """
        timesteps, noise, posterior = [], [], []
        for i, sample in enumerate(samples):
            generator = seeded(seed, step, sample, samples[:i].count(sample))
            timesteps.append(torch.randint(len(self.alphas_cumprod), (), generator=generator))
            noise.append(torch.randn(*shape, generator=generator))
            posterior.append(torch.randn(*shape, generator=generator))
        return Draw(torch.stack(timesteps), torch.stack(noise), torch.stack(posterior))

    def _mix(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(a) and sqrt(1 - a) of each sample, (b, 1, 1, 1)."""
        a = self.alphas_cumprod.to(timesteps.device, torch.float32)[timesteps].view(-1, 1, 1, 1)
        return a.sqrt(), (1 - a).sqrt()

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t of (b, c, h, w) latents and noise at timesteps (b,)."""
        signal, amount = self._mix(timesteps)
        return signal * latents + amount * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the UNet should answer, (b, c, h, w)."""
        if self.prediction_type == "epsilon":
            return noise
        signal, amount = self._mix(timesteps)
        return signal * noise - amount * latents

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio a / (1 - a) at timesteps (b,)."""
        a = self.alphas_cumprod.to(timesteps.device, torch.float32)[timesteps]
        return a / (1 - a)

    def weights(self, timesteps: Tensor) -> Tensor:
        """min-SNR weights (b,): min(SNR, gamma) / SNR for epsilon, min(SNR, gamma) / (SNR + 1) for v."""
        snr = self.snr(timesteps)
        if not self.min_snr_gamma:
            return torch.ones_like(snr)
        capped = snr.clamp(max=self.min_snr_gamma)
        return capped / snr if self.prediction_type == "epsilon" else capped / (snr + 1)

    def losses(self, prediction: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
        """Weighted squared error of each sample (b,), each with the weight of its own timestep."""
        error = F.mse_loss(prediction.float(), target.float(), reduction="none")
        return error.flatten(1).mean(1) * self.weights(timesteps)

    def total(self, losses: Tensor, of_class: Tensor) -> Tensor:
        """mean(losses of own pictures) + prior_weight * mean(losses of class pictures) (DreamBooth, eq. 2:
        Ruiz et al. 2022, arXiv:2208.12242; the loop gives class pictures the base's own answer as target).

        Args:
            losses: (b,).
            of_class: (b,) bool, true where the sample is a class picture.
        """
        total = losses[~of_class].mean()
        if self.prior_weight and bool(of_class.any()):
            total = total + self.prior_weight * losses[of_class].mean()
        return total
