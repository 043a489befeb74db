"""An autoencoder that works on a picture tile by tile, so that large ones need no more memory than small."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def tiled(vae: Any, side: int) -> Generator[None]:
    """Inside, diffusers' autoencoder works in tiles of so many pixels a side; 0 is its own size."""
    before = vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size
    vae.enable_tiling()
    if side:
        vae.tile_latent_min_size = side * vae.tile_latent_min_size // vae.tile_sample_min_size
        vae.tile_sample_min_size = side
    try:
        yield
    finally:
        vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size = before
