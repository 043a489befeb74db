"""Latent moments and prompt embeddings, computed once.

Moments (mean and spread of the autoencoder's posterior) are kept, not one sample of it, so that every step
draws its own. They live under the cache folder in files named by a hash of everything they depend on: the
picture's bytes, how it was cropped, the autoencoder's weights, and the version of this code. An edited
picture or another autoencoder therefore never meets stale latents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from lorastyle.adapters import atomic_write, file_hash
from lorastyle.bases import PromptEmbeds, StableDiffusion, cache_folder
from lorastyle.errors import TrainingError

from .weights import WeightHashes, raw_bytes

CODE_VERSION = "2"


class LatentCache:
    """Moments of picture files, from the cache folder or made now.

    Args:
        keep: write those that are made now, for the next time.

    Attributes:
        made, reused: how many were encoded now, how many were found.
        unwritable: why moments could not be kept on disk (training goes on without), or None.
    """

    def __init__(
        self,
        base: StableDiffusion,
        folder: Path | None = None,
        hashes: WeightHashes | None = None,
        *,
        keep: bool = True,
    ) -> None:
        self._base, self._keep = base, keep
        self._folder = (folder or cache_folder()) / "latents"
        self._model = f"{(hashes or WeightHashes(base))['vae']} {base.dtype}"
        self.made = self.reused = 0
        self.unwritable: str | None = None

    def moments(self, picture: Path, transform: str, load: Callable[[], Tensor]) -> Tensor:
        """Moments (2c, h/8, w/8), float32 on the CPU.

        Args:
            picture: the file; its bytes are part of the key.
            transform: words for everything that `load` does to the picture (size, crop, background).
            load: gives the pixels (3, h, w) in -1..1; only called when nothing is cached.

        Raises:
            TrainingError: the autoencoder's answer holds NaN or infinity.
        """
        key = json.dumps([file_hash(picture), transform, self._model, CODE_VERSION])
        name = hashlib.sha256(key.encode()).hexdigest()
        path = self._folder / name[:2] / f"{name}.safetensors"
        found = _read(path)
        if found is not None:
            self.reused += 1
            return found
        with torch.no_grad():
            pixels = load().unsqueeze(0).to(self._base.device)
            moments = self._base.encode_images(pixels)[0].float().cpu().contiguous()
        if not bool(moments.isfinite().all()):
            raise TrainingError(
                f'The autoencoder turns "{picture.name}" into NaN or infinite latents. Train with '
                "--precision float32, or take the picture out of the folder if it is the only one."
            )
        self.made += 1
        if self._keep:
            self._write(path, moments)
        return moments

    def _write(self, path: Path, moments: Tensor) -> None:
        data = to_bytes({"moments": moments}, {"sha256": hashlib.sha256(raw_bytes(moments)).hexdigest()})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, data)
        except OSError as error:  # a full or read-only disk costs speed next time, not this training
            self.unwritable = f"{self._folder}: {error.strerror or error}"


def _read(path: Path) -> Tensor | None:
    """The moments in a cache file; None where there is none, or a damaged one (which is then made again)."""
    try:
        with safe_open(path, "pt") as file:
            moments, metadata = file.get_tensor("moments"), file.metadata()
    except (OSError, SafetensorError):
        return None
    whole = (metadata or {}).get("sha256") == hashlib.sha256(raw_bytes(moments)).hexdigest()
    return moments if whole else None


class PromptEncoder:
    """Prompts to embeddings; each prompt is encoded once, unless a text encoder is being trained."""

    def __init__(self, base: StableDiffusion, *, trained: bool, clip_skip: int = 1) -> None:
        self._base, self._trained, self._clip_skip = base, trained, clip_skip
        self._known: dict[str, PromptEmbeds] = {}

    def __call__(self, prompts: Sequence[str]) -> PromptEmbeds:
        """A batch of embeddings; gradients flow into a trained text encoder."""
        if self._trained:
            return self._base.encode_prompts(prompts, clip_skip=self._clip_skip)
        for prompt in prompts:
            if prompt not in self._known:
                with torch.no_grad():
                    embeds = self._base.encode_prompts([prompt], clip_skip=self._clip_skip)
                self._known[prompt] = embeds.detach()
        return PromptEmbeds.cat([self._known[prompt] for prompt in prompts])

    @property
    def cached(self) -> int:
        """How many prompts are kept."""
        return len(self._known)
