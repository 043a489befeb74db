"""Latents to pixels in as few calls of the autoencoder as memory allows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lorastyle.notes import note

from .out_of_memory import is_out_of_memory, release_memory
from .tiles import tiled


def decode_in_parts(vae: Any, latents: Tensor, at_once: int) -> Tensor:
    """Pixels (b, 3, h, w) of latents (b, c, h/8, w/8), as `vae.decode` makes them.

    Where memory runs out, fewer are decoded in one call, and a single one in tiles, with a note: tiles differ
    a little from the whole where they meet.

    Args:
        at_once: how many to begin with.

    Raises:
        torch.OutOfMemoryError, RuntimeError, MemoryError: not even that fits.
    """
    done: list[Tensor] = []
    start = 0
    while start < len(latents):
        some = latents[start : start + at_once]
        pixels = _decoded(vae, some)
        if isinstance(pixels, Exception):
            release_memory(latents.device)
            if len(some) > 1:
                at_once = len(some) // 2
                continue
            pixels = _in_tiles(vae, some, pixels)
        done.append(pixels)
        start += len(some)
    return torch.cat(done)


def _decoded(vae: Any, latents: Tensor) -> Tensor | Exception:
    """The pixels, or the error that says that memory ran out, without the frames that hold on to it."""
    try:
        return vae.decode(latents).sample
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        return error.with_traceback(None)


def _in_tiles(vae: Any, latents: Tensor, error: Exception) -> Tensor:
    """One picture in tiles of the autoencoder's own size; `error` where it is no larger than one, or in tiles
    already.
    """
    if vae.use_tiling or max(latents.shape[-2:]) <= vae.tile_latent_min_size:
        raise error
    note("The memory is too small to decode the image at once: it is decoded in tiles, whose edges may show.")
    with tiled(vae, 0):
        return vae.decode(latents).sample
