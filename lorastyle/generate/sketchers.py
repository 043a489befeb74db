"""What draws a base's latents quickly: a tiny autoencoder where one is at hand, else one matrix."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from lorastyle.bases import StableDiffusion, cached_folder
from lorastyle.errors import ConfigError
from lorastyle.hub import split_hub_id

from .linear_sketch import linear_map, linear_sketch

Sketcher = Callable[[Tensor], Tensor]  # latents as the UNet knows them -> (b, 3, h', w'), about -1..1

LINEAR = "linear"
VARIABLE = "LORASTYLE_PREVIEW_DECODER"
# By family; as their authors publish them (github.com/madebyollin/taesd).
KNOWN = {"sd1": "madebyollin/taesd", "sd2": "madebyollin/taesd", "sdxl": "madebyollin/taesdxl"}


def make_sketcher(base: StableDiffusion, decoder: str | None = None) -> Sketcher:
    """The quickest faithful look at a base's latents.

    Args:
        decoder: the folder of a tiny autoencoder (AutoencoderTiny), the Hub id of one in the local cache, or
            "linear". None asks LORASTYLE_PREVIEW_DECODER, then the cache for the family's own. Nothing is
            downloaded for a preview.

    Raises:
        ConfigError: a decoder was named that is not here or does not fit.
    """
    named = decoder or os.environ.get(VARIABLE) or None
    if named is None:
        known = KNOWN.get(base.family)
        folder = None if known is None else _in_cache(known)
    elif named == LINEAR:
        folder = None
    else:
        folder = Path(named).expanduser()
        folder = folder if folder.is_dir() else _in_cache(named)
        if folder is None:
            raise ConfigError(
                f'preview decoder: "{named}" is neither a folder nor a model in the local cache. Name the '
                f"folder of an AutoencoderTiny, fetch it with `hf download {named}`, or use {LINEAR}."
            )
    if folder is None:
        return partial(linear_sketch, *linear_map(base))
    return _tiny_sketcher(folder, base)


def _in_cache(repo: str) -> Path | None:
    hub_id = split_hub_id(repo)
    return None if hub_id is None else cached_folder(*hub_id, file="config.json")


def _tiny_sketcher(folder: Path, base: StableDiffusion) -> Sketcher:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    try:
        tiny: Any = cast(Any, AutoencoderTiny).from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f'preview decoder: "{folder}" cannot be loaded ({why}). Get it again, or use {LINEAR}.'
        ) from error
    if (channels := int(tiny.config.latent_channels)) != base.latent_channels:
        raise ConfigError(
            f'preview decoder: "{folder}" is for {channels} latent channels, and the base "{base.name}" has '
            f"{base.latent_channels}. Choose the one of its family, or use {LINEAR}."
        )
    tiny.to(base.device, torch.float32).eval().requires_grad_(False)

    def sketch(latents: Tensor) -> Tensor:
        # what it was taught on are latents as the UNet knows them
        with torch.no_grad():
            return tiny.decode(latents.to(base.device, torch.float32), return_dict=False)[0]

    return sketch
