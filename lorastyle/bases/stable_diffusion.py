"""Stable Diffusion 1.x and 2.x, and the embedded base, behind one small class."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from lorastyle.errors import BaseError

from .family import family_from_width
from .precision import compute_dtype


class StableDiffusion:
    """A frozen text-to-image model: words to embeddings, pictures to latents and back, noise predictions.

    The UNet computes in `dtype` under autocast and answers in float32; text encoder and autoencoder are small
    and stay in float32.

    Args:
        pipe: a diffusers StableDiffusionPipeline; its weights are frozen and it is put into eval mode.
        name: what users call the base; recorded in pictures.
        family: adapters fit within a family; None reads it off the width of the UNet's cross-attention.
        dtype: what the UNet computes in; None asks `compute_dtype`.

    Raises:
        BaseError: the pipeline is a Stable Diffusion XL.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        name: str = "pipeline",
        family: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.pipe: Any = pipe
        self.name = name
        self.family: str = family or family_from_width(int(pipe.unet.config.cross_attention_dim))
        self.device: torch.device = pipe.unet.device
        self.dtype: torch.dtype = compute_dtype(self.device) if dtype is None else dtype
        self.components: dict[str, nn.Module] = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
        for part in (pipe.unet, pipe.text_encoder, pipe.vae):
            part.eval().requires_grad_(False)
        pipe.text_encoder.to(torch.float32)
        pipe.vae.to(torch.float32)
        self.max_tokens: int = min(
            int(pipe.tokenizer.model_max_length), int(pipe.text_encoder.config.max_position_embeddings)
        )
        self.latent_channels: int = int(pipe.vae.config.latent_channels)
        self.pixels_per_latent: int = int(pipe.vae_scale_factor)
        size = pipe.unet.config.sample_size
        self.resolution: int = (size if isinstance(size, int) else int(size[0])) * self.pixels_per_latent
        self.prediction_type: str = str(pipe.scheduler.config.prediction_type)
        self.alphas_cumprod: Tensor = _noise_schedule(pipe.scheduler.config)
        # Read now: once a bank is attached, the modules lie inside its layers under other names.
        self._shapes = {name: _weight_shapes(module) for name, module in self.components.items()}

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings of shape (b, tokens, dim), float32, padded to `max_tokens`.

        Gradients flow into an attached adapter where they are enabled. Words beyond `max_tokens` are dropped
        and named in a warning.
        """
        tokenizer = self.pipe.tokenizer
        for prompt in prompts:
            self._warn_of_dropped_words(prompt)
        tokens = tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        mask: Tensor | None = None
        if getattr(self.pipe.text_encoder.config, "use_attention_mask", False):
            mask = tokens.attention_mask.to(self.device)
        return self.pipe.text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Moments of the latents: (b, 3, h, w) in -1..1 -> (b, 2c, h/8, w/8), mean and log variance.

        Raises:
            BaseError: the moments are not finite.
        """
        pixels = pixels.to(self.device, torch.float32)
        moments = self.pipe.vae.encode(pixels).latent_dist.parameters
        return _finite(moments, "encoding pictures")

    def latents(self, moments: Tensor, noise: Tensor) -> Tensor:
        """Latents as the UNet knows them: (mean + std * noise) * scaling_factor; (b, c, h/8, w/8)."""
        mean, log_variance = moments.chunk(2, dim=1)
        std = (0.5 * log_variance.clamp(-30.0, 20.0)).exp()  # the clamp is AutoencoderKL's own
        return (mean + std * noise) * float(self.pipe.vae.config.scaling_factor)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of shape (b, 3, h, w) in -1..1 from latents (b, c, h/8, w/8).

        Raises:
            BaseError: the latents or the pictures are not finite.
        """
        latents = _finite(latents, "drawing").to(self.device, torch.float32)
        pixels = self.pipe.vae.decode(latents / float(self.pipe.vae.config.scaling_factor)).sample
        return _finite(pixels, "decoding latents").clamp(-1.0, 1.0)

    def predict(self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor) -> Tensor:
        """What the UNet says about `noisy` (b, c, h, w) at `timesteps` (b,): noise or v, float32."""
        with self._autocast():
            answer = self.pipe.unet(noisy, timesteps, encoder_hidden_states=prompt_embeds, return_dict=False)[
                0
            ]
        return answer.float()

    @contextmanager
    def mixed_precision(self) -> Generator[None]:
        """Within, the pipeline's own calls of the UNet run as in `predict`: autocast inside, float32 out.

        Only the UNet, so that guidance and the scheduler's arithmetic stay in float32.
        """
        unet: Any = self.pipe.unet
        forward = cast("Callable[..., tuple[Tensor, ...]]", unet.forward)
        earlier = unet.__dict__.get("forward")

        def rounded(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
            with self._autocast():
                answers = forward(*args, **{**kwargs, "return_dict": False})
            return tuple(answer.float() for answer in answers)

        unet.forward = rounded
        try:
            yield
        finally:
            if earlier is None:
                del unet.forward
            else:
                unet.forward = earlier

    def module_names(self) -> dict[str, list[str]]:
        """Dotted paths of every Linear and Conv2d, per component."""
        return {component: list(shapes) for component, shapes in self._shapes.items()}

    def module_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Weight shape of every Linear (out, in) and Conv2d (out, in, kh, kw): {component: {path: shape}}."""
        return {component: dict(shapes) for component, shapes in self._shapes.items()}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type,
            dtype=None if self.dtype == torch.float32 else self.dtype,
            enabled=self.dtype != torch.float32,
        )

    def _warn_of_dropped_words(self, prompt: str) -> None:
        tokenizer = self.pipe.tokenizer
        ids = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
        room = self.max_tokens - int(tokenizer.num_special_tokens_to_add(pair=False))
        if len(ids) > room:
            dropped = str(tokenizer.decode(ids[room : room + 100])).strip()
            dropped = dropped if len(ids) <= room + 100 else f"{dropped} ..."
            warnings.warn(
                f'The prompt is {len(ids)} tokens long and the base "{self.name}" reads {room}. '
                f'Dropped: "{dropped}".',
                stacklevel=3,
            )


def _weight_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {
        path: tuple(layer.weight.shape)
        for path, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    }


def _noise_schedule(config: Any) -> Tensor:
    """alpha-bar of every timestep (DDPM, arXiv 2006.11239), as the scheduler's config describes it."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    scheduler = cast(Any, DDPMScheduler).from_config(config)
    return cast(Tensor, scheduler.alphas_cumprod)


def _finite(values: Tensor, doing: str) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise BaseError(
            f"The base gave numbers that are not finite while {doing}. Lower the adapters' scales or the "
            "guidance, or load the base with dtype=torch.float32."
        )
    return values
