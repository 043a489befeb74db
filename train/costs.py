"""What a run costs in memory and time, estimated before it starts."""

from __future__ import annotations

from collections.abc import Collection

import torch

from lorastyle.adapters import megabytes as megabytes
from lorastyle.bases import (
    MemoryMode,
    StableDiffusion,
    activations,
    autoencoder_bytes,
    host_cores,
    weight_bytes,
)


def memory(
    base: StableDiffusion,
    mode: MemoryMode,
    *,
    trainable: int,
    trained: Collection[str],
    latent_pixels: int,
    pixels: int,
    checkpointing: bool,
) -> int:
    """Bytes on the device: the adapter with its gradient and two moments, weights, and what a step keeps for
    its gradient or a sample's decoding wants, whichever is more.

    On a CPU a step keeps, by rule of thumb, 1,000 values of the first level's width per latent pixel of a
    batch, 4 bytes each (autocast keeps both kinds); a quarter of it with checkpointing. On a GPU see
    `Activations`.

    Args:
        trained: the components that are trained.
        latent_pixels: of a whole batch; pixels: of one picture.
    """
    parts = {name: weight_bytes(part, mode.bits) for name, part in base.components.items()}
    vae = weight_bytes(base.pipe.vae)
    if base.device.type == "cpu":
        kept = latent_pixels * int(base.pipe.unet.config.block_out_channels[0]) * 1000 * 4
        kept //= 4 if checkpointing else 1
    else:
        each = activations(base)
        kept = latent_pixels * (each.checkpointed if checkpointing else each.training)
    words = sum(parts[name] for name in base.text_encoders)
    decoding = autoencoder_bytes(base, mode, pixels)
    if not mode.offloads:
        return 16 * trainable + words + parts["unet"] + max(vae + kept, decoding)
    resident = words if set(trained) & set(base.text_encoders) else 0
    return 16 * trainable + max(parts["unet"] + resident + kept, decoding, words)


def seconds_per_picture(
    parameters: int, latent_pixels: int, device: torch.device, dtype: torch.dtype
) -> float:
    """From measurements in bfloat16 on 2 cores, 17 M parameters on 16 x 16 latents: 46 pictures a second in
    large batches, and 20 in batches of four, whose many small calls cost 0.028 s a picture.
    """
    work = parameters * latent_pixels / (17e6 * 256) / 46
    slower = 3.0 if dtype == torch.float32 else 1.0
    faster = 150.0 if device.type == "cuda" else host_cores() / 2
    return 0.028 + work * slower / faster


def minutes(seconds: float) -> str:
    """ "40 s", "12 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
