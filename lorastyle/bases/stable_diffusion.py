"""Stable Diffusion 1.x and 2.x, and the embedded base, behind one small class."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorastyle.errors import BaseError, BaseMismatchError

from .decoding import decode_in_parts
from .family import family_from_width
from .inputs import is_inpainting
from .loaded_file import LoadedFile
from .memory import WHOLE
from .needs import MOST_PIXELS_WHOLE, PIXELS_AT_ONCE
from .noise_schedule import noise_schedule
from .pipeline_parts import check_parts
from .placement import Placement
from .precision import compute_dtype
from .prompt_embeds import PromptEmbeds
from .shapes import weight_shapes
from .text import Chunk, TextReader
from .tiles import tiled
from .weight_files import WeightFiles

TEXT_ENCODERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


class StableDiffusion:
    """A frozen text-to-image model: words to embeddings, pictures to latents and back, noise predictions.

    The UNet computes in `dtype` and answers in float32, under autocast where it is trained or its weights are
    of another dtype; text encoders and autoencoder stay in float32.

    Args:
        pipe: a diffusers StableDiffusionPipeline or StableDiffusionInpaintPipeline; its weights are frozen
            and it is put into eval mode.
        name: what users call the base; recorded in pictures.
        family: adapters fit within a family; None reads it off the width of the UNet's cross-attention.
        dtype: what the UNet computes in; None asks `compute_dtype`.
        device: where it computes; None is where the pipeline is. Elsewhere, `placement.arrange` settles what
            goes there and when.

    Raises:
        BaseError: the pipeline is of another family than this class, or its UNet reads something beside the
            latents that is no mask with its picture.
    """

    inpainting_strength = 1.0  # how much an inpainting base draws anew within a mask, where nobody says
    first_skip = 1  # a clip skip of 1 is all layers of the text encoder
    file: LoadedFile | None = None  # the one checkpoint that it was loaded from, if it was
    files: WeightFiles | None = None  # all that it was loaded from, by `load_base`
    images_at_once: int | None = None  # how many fit the device, where `load_base` looked

    def __init__(
        self,
        pipe: Any,
        *,
        name: str = "pipeline",
        family: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        check_parts(pipe, name)
        self.pipe: Any = pipe
        self.name = name
        self.family: str = family or family_from_width(int(pipe.unet.config.cross_attention_dim))
        self._check_family()
        self.device: torch.device = pipe.unet.device if device is None else device
        self.dtype: torch.dtype = compute_dtype(self.device) if dtype is None else dtype
        encoders = {part: getattr(pipe, part, None) for part in TEXT_ENCODERS}
        self.components: dict[str, nn.Module] = {
            "unet": pipe.unet,
            **{part: module for part, module in encoders.items() if module is not None},
        }
        for part in (*self.components.values(), pipe.vae):
            part.eval().requires_grad_(False)
            if part is not pipe.unet:
                part.to(torch.float32)
        self.readers: tuple[TextReader, ...] = tuple(
            TextReader(getattr(pipe, TEXT_ENCODERS[part]), module, name)
            for part, module in self.components.items()
            if part in TEXT_ENCODERS
        )
        self.max_tokens: int = min(reader.max_tokens for reader in self.readers)
        self.latent_channels: int = int(pipe.vae.config.latent_channels)
        self.inpainting: bool = is_inpainting(name, int(pipe.unet.config.in_channels), self.latent_channels)
        self.pixels_per_latent: int = int(pipe.vae_scale_factor)
        size = pipe.unet.config.sample_size
        self.resolution: int = (size if isinstance(size, int) else int(size[0])) * self.pixels_per_latent
        self.prediction_type: str = str(pipe.scheduler.config.prediction_type)
        # Bases that end in pure noise overexpose under guidance: less of it, rescaled (arXiv:2305.08891).
        zero_snr = bool(pipe.scheduler.config.get("rescale_betas_zero_snr", False))
        self.guidance: float = 3.0 if zero_snr else 5.0
        self.guidance_rescale: float = 0.7 if zero_snr else 0.0
        self.alphas_cumprod: Tensor = noise_schedule(pipe.scheduler.config)
        self.placement = Placement({**self.components, "vae": pipe.vae}, self.device)
        # Read now: once a bank is attached, the modules lie inside its layers under other names.
        self._shapes = {name: weight_shapes(module) for name, module in self.components.items()}

    def encode_prompts(self, prompts: Sequence[str], *, clip_skip: int = 1) -> PromptEmbeds:
        """Embeddings of prompts as they are, for training: (b, max_tokens, dim), float32.

        Gradients flow into an attached adapter where they are enabled. Words beyond `max_tokens` are dropped
        and named in a warning.

        Args:
            clip_skip: 1 reads the text encoder's last layer, 2 the one before, and so on, as in A1111 and
                kohya's trainer. SDXL always leaves out one.

        Raises:
            BaseError: the text encoder has fewer layers.
        """
        self.check_skip(clip_skip)
        min(self.readers, key=lambda reader: reader.room).warn_of_dropped_words(prompts)
        with self.placement.using(*self.text_encoders):
            return self._encode([reader.cut(prompts) for reader in self.readers], clip_skip)

    def read(
        self, prompts: Sequence[str], negatives: Sequence[str], *, clip_skip: int = 1
    ) -> tuple[PromptEmbeds, PromptEmbeds]:
        """Embeddings of prompts and of what guidance leads away from, for drawing.

        Brackets are weights: a token of weight w is moved away from what stands in its place in an empty
        prompt, empty + w (token - empty), which is ComfyUI's rule. No word is dropped: what is longer than
        `max_tokens` is read in chunks whose embeddings follow one another: (b, chunks * tokens, dim), as many
        for all as the longest needs.

        Raises:
            BaseError: the text encoder has fewer layers than `clip_skip`.
        """
        self.check_skip(clip_skip)
        empty = [reader.chunks("")[0] for reader in self.readers]
        read = {text: [r.chunks(text) for r in self.readers] for text in (*prompts, *negatives)}
        most = max(len(chunks) for of_text in read.values() for chunks in of_text)
        with self.placement.using(*self.text_encoders):
            known = {
                text: self._encode_chunks(
                    [
                        [*chunks, *[none] * (most - len(chunks))]
                        for chunks, none in zip(of_text, empty, strict=True)
                    ],
                    empty,
                    clip_skip,
                )
                for text, of_text in read.items()
            }
        unwanted = [known[text] if text else self._empty_negative(known[text]) for text in negatives]
        return PromptEmbeds.cat([known[text] for text in prompts]), PromptEmbeds.cat(unwanted)

    def places(self, prompt: str, words: str) -> Tensor:
        """Which of the embeddings that `read` makes of a prompt are of these words: (tokens,), True there.

        A prompt in several chunks never parts words, but at a comma; those that it parts are not found.
        """
        return self.readers[0].places(prompt, words)

    def _empty_negative(self, embeds: PromptEmbeds) -> PromptEmbeds:
        """What guidance leads away from when there is nothing to name: the empty prompt's embeddings."""
        return embeds

    def _encode_chunks(
        self, chunks: Sequence[Sequence[Chunk]], empty: Sequence[Chunk], clip_skip: int
    ) -> PromptEmbeds:
        """One prompt's chunks, a sequence for each text encoder, as a batch of one."""
        embeds = self._encode([torch.cat([c.ids for c in of_one]) for of_one in chunks], clip_skip)
        tokens = embeds.tokens
        weights = torch.stack([c.weights for c in chunks[0]])[..., None].to(tokens)
        if bool((weights != 1).any()):
            nothing = self._encode([c.ids for c in empty], clip_skip).tokens
            tokens = torch.where(weights == 1, tokens, nothing + weights * (tokens - nothing))
        pooled = None if embeds.pooled is None else embeds.pooled[:1]
        return PromptEmbeds(tokens.flatten(0, 1)[None], pooled)

    def _encode(self, ids: Sequence[Tensor], clip_skip: int) -> PromptEmbeds:
        """Embeddings of ids (b, max_tokens), one tensor for each text encoder."""
        return PromptEmbeds(self.readers[0].last(ids[0], clip_skip))

    def set_words(self, words: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Words of adapters' own that `read` knows from now on, and no others.

        Args:
            words: {word: {text encoder: vectors (n, width)}}. A text encoder that a word has no vectors for
                reads its letters. They must be of its width (`check_words`).
        """
        for component, reader in zip(self.text_encoders, self.readers, strict=True):
            reader.set_words({word: v[component] for word, v in words.items() if component in v})

    def check_words(self, words: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Are these words, as for `set_words`, of this base's width?

        Raises:
            BaseMismatchError: one was made for a text encoder of another width.
        """
        for component, reader in zip(self.text_encoders, self.readers, strict=True):
            for word, vectors in words.items():
                width = vectors[component].shape[1] if component in vectors else reader.width
                if width != reader.width:
                    raise BaseMismatchError(
                        f"The word {word!r} that the adapter brings is {width} wide, and the base "
                        f'"{self.name}" reads words of {reader.width}. Use it with the base it was made for.'
                    )

    def unread_layers(self, component: str, clip_skip: int = 1) -> range:
        """Layers of a text encoder that nothing reads: an adapter there would get no gradient."""
        layers = self.readers[0].layers if component == "text_encoder" else 0
        return range(layers - clip_skip + 1, layers)

    def chunks(self, prompt: str) -> int:
        """In how many chunks `read` takes a prompt."""
        return max(len(reader.chunks(prompt)) for reader in self.readers)

    def check_skip(self, clip_skip: int) -> None:
        """Has the text encoder as many layers?

        Raises:
            BaseError: it has not; with how many there are.
        """
        most = min(reader.layers for reader in self.readers)
        if not 1 <= clip_skip <= most:
            raise BaseError(
                f'The clip skip is {clip_skip}; the base "{self.name}" has text layers for 1 to {most}.'
            )

    def _check_family(self) -> None:
        if hasattr(self.pipe, "text_encoder_2"):
            raise BaseError(
                f'The base "{self.name}" has a second text encoder: it is a StableDiffusionXL. Open it with '
                "lorastyle.bases.open_pipeline(pipe)."
            )

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Moments of the latents: (b, 3, h, w) in -1..1 -> (b, 2c, h/8, w/8), mean and log variance.

        Raises:
            BaseError: the moments are not finite.
        """
        pixels = pixels.to(self.device, torch.float32)
        with self._autoencoder(pixels.shape[-2] * pixels.shape[-1]):
            moments = self.pipe.vae.encode(pixels).latent_dist.parameters
        return _finite(moments, "encoding pictures")

    def latents(self, moments: Tensor, noise: Tensor) -> Tensor:
        """Latents as the UNet knows them: (mean + std * noise) * scaling_factor; (b, c, h/8, w/8)."""
        mean, log_variance = moments.chunk(2, dim=1)
        std = (0.5 * log_variance.clamp(-30.0, 20.0)).exp()  # the clamp is AutoencoderKL's own
        return (mean + std * noise) * float(self.pipe.vae.config.scaling_factor)

    def inpaint_concat(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """What an inpainting base reads beside the noisy latents, (b, 1 + c, h/8, w/8).

        That is the mask, 1 where it draws anew, and the latents of the picture without that part, which is
        grey instead: the order, the threshold and the nearest neighbours of diffusers' inpainting pipelines
        and of the models' training (`LatentInpaintDiffusion` of github.com/Stability-AI/stablediffusion).

        Args:
            pixels: (b, 3, h, w) in -1..1.
            mask: (b or 1, 1, h, w) in 0..1, drawn anew from 0.5 on, or from half of its lightest where that
                is darker.

        Raises:
            BaseError: the latents are not finite.
        """
        lightest = mask.amax((1, 2, 3), keepdim=True)
        cut = torch.where(lightest >= 0.5, 0.5, lightest / 2)
        anew = ((mask >= cut) & (mask > 0)).to(pixels)
        moments = self.encode_images(pixels * (1 - anew))
        latents = self.latents(moments, torch.zeros_like(moments.chunk(2, 1)[0]))
        size = tuple(latents.shape[-2:])
        on_grid = F.interpolate(anew, size=size)
        if not bool(on_grid.any()):  # a few pixels, between those that the nearest neighbours are
            on_grid = F.adaptive_max_pool2d(anew, size)
        return torch.cat([on_grid.to(latents).expand(len(latents), -1, -1, -1), latents], 1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of shape (b, 3, h, w) in -1..1 from latents (b, c, h/8, w/8); see `decode_in_parts`.

        Raises:
            BaseError: the latents or the pictures are not finite.
        """
        latents = _finite(latents, "drawing").to(self.device, torch.float32)
        latents = latents / float(self.pipe.vae.config.scaling_factor)
        pixels_each = latents.shape[-2] * latents.shape[-1] * self.pixels_per_latent**2
        with self._autoencoder(pixels_each):
            pixels = decode_in_parts(self.pipe.vae, latents, max(1, PIXELS_AT_ONCE // pixels_each))
        return _finite(pixels, "decoding latents").clamp(-1.0, 1.0)

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        prompt_embeds: PromptEmbeds,
        time_ids: Tensor | None = None,
        concat: Tensor | None = None,
    ) -> Tensor:
        """What the UNet says about `noisy` (b, c, h, w) at `timesteps` (b,): noise or v, float32.

        Args:
            time_ids: (b, 6), how each picture was framed: height and width before it was resized, top and
                left of the crop, height and width of the crop. Families that do not ask ignore it; None says
                that the picture is whole.
            concat: (b or 1, 1 + c, h, w), what `inpaint_concat` made; an inpainting base needs it.
        """
        if concat is not None:
            noisy = torch.cat([noisy, concat.to(noisy).expand(len(noisy), -1, -1, -1)], 1)
        plain = self._needs_no_cast()
        if plain:
            noisy, prompt_embeds = noisy.to(self.dtype), prompt_embeds.to(self.dtype)
        with self.placement.using("unet"), nullcontext() if plain else self._autocast():
            answer = self.pipe.unet(
                noisy,
                timesteps,
                encoder_hidden_states=prompt_embeds.tokens,
                return_dict=False,
                **self._more_inputs(noisy, prompt_embeds, time_ids),
            )[0]
        return answer.float()

    def noise_free(self, noisy: Tensor, answer: Tensor, timestep: Tensor) -> Tensor:
        """The latents that `noisy` (b, c, h, w) would be without noise, if the UNet's answer were right.

        From x_t = sqrt(a) x0 + sqrt(1 - a) eps and v = sqrt(a) eps - sqrt(1 - a) x0 (arXiv:2202.00512).

        Args:
            timestep: (), the one that was predicted at. It may lie between two: log sigma is linear there, as
                for the schedulers that ask so (Karras et al. 2022, arXiv:2206.00364).
        """
        a = self.alphas_cumprod.double().clamp(min=2**-24)  # what schedulers keep of a schedule's zero
        log_sigmas = ((1 - a) / a).log() / 2
        t = min(max(float(timestep), 0.0), len(a) - 1.0)
        low, high = int(t), min(int(t) + 1, len(a) - 1)
        variance = float(torch.lerp(log_sigmas[low], log_sigmas[high], t - low).exp()) ** 2
        signal, amount = (1 / (1 + variance)) ** 0.5, (variance / (1 + variance)) ** 0.5
        if self.prediction_type == "epsilon":
            return (noisy - amount * answer) / signal
        return signal * noisy - amount * answer if self.prediction_type == "v_prediction" else answer

    def _more_inputs(
        self, noisy: Tensor, prompt_embeds: PromptEmbeds, time_ids: Tensor | None
    ) -> dict[str, Any]:
        return {}

    @property
    def text_encoders(self) -> list[str]:
        """The names of the components that read words."""
        return [component for component in self.components if component in TEXT_ENCODERS]

    def module_names(self) -> dict[str, list[str]]:
        """Dotted paths of every Linear, Conv2d and norm layer, per component."""
        return {component: list(shapes) for component, shapes in self._shapes.items()}

    def module_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Weight shape of every Linear (out, in), Conv2d (out, in, kh, kw) and norm layer (channels,):
        {component: {path: shape}}.
        """
        return {component: dict(shapes) for component, shapes in self._shapes.items()}

    @contextmanager
    def _autoencoder(self, pixels: int) -> Generator[None]:
        """It is on the device, and takes pictures of so many pixels whole or in tiles."""
        mode = self.placement.mode
        large = pixels > MOST_PIXELS_WHOLE or (mode.tiles > 0 and pixels > WHOLE)
        with self.placement.using("vae"), tiled(self.pipe.vae, mode.tiles) if large else nullcontext():
            yield

    def _needs_no_cast(self) -> bool:
        """Whether the UNet can be called in its own dtype: nothing is trained, and its weights are in it.

        Autocast, which training needs, takes every norm to float32 and back: 17 % more time a call for SD 1.5
        on an H200 (benchmarks/RESULTS.md).
        """
        weights = next(self.pipe.unet.parameters())
        return not torch.is_grad_enabled() and self.dtype != torch.float32 and weights.dtype == self.dtype

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type,
            dtype=None if self.dtype == torch.float32 else self.dtype,
            enabled=self.dtype != torch.float32,
        )


def _finite(values: Tensor, doing: str) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise BaseError(
            f"The base gave numbers that are not finite while {doing}. Lower the adapters' scales or the "
            "guidance, or load the base with dtype=torch.float32. If it does so without adapters too, its "
            "weights are damaged: get it again."
        )
    return values
