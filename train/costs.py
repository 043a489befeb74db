"""What a run costs in memory and time, estimated before it starts."""

from __future__ import annotations

import os

import torch

from lorastyle.bases import StableDiffusion


def memory(base: StableDiffusion, trainable: int, latent_pixels: int, checkpointing: bool) -> int:
    """Bytes: weights, the adapter with its gradient and two moments, and what a step keeps for its gradient.

    The last is a rule of thumb: 1,000 values of the first level's width per latent pixel of a batch, 4 bytes
    each on a CPU (autocast keeps both kinds), 2 on a GPU; a quarter of it with checkpointing.
    """
    parts = (*base.components.values(), base.pipe.vae)
    weights = sum(p.numel() * p.element_size() for part in parts for p in part.parameters())
    width = int(base.pipe.unet.config.block_out_channels[0])
    kept = latent_pixels * width * 1000 * (4 if base.device.type == "cpu" else 2)
    return weights + 16 * trainable + kept // (4 if checkpointing else 1)


def free_memory(device: torch.device) -> int:
    """Bytes that a run may count on: free ones of a GPU, else three quarters of the machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not hasattr(os, "sysconf"):
        return 8 << 30  # a system that does not tell: assume a small machine
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4


def seconds_per_picture(
    parameters: int, latent_pixels: int, device: torch.device, dtype: torch.dtype
) -> float:
    """From measurements in bfloat16 on 2 cores, 17 M parameters on 16 x 16 latents: 46 pictures a second in
    large batches, and 20 in batches of four, whose many small calls cost 0.028 s a picture.
    """
    work = parameters * latent_pixels / (17e6 * 256) / 46
    slower = 3.0 if dtype == torch.float32 else 1.0
    faster = 150.0 if device.type == "cuda" else max(1, os.cpu_count() or 2) / 2
    return 0.028 + work * slower / faster


def megabytes(count: int) -> str:
    """ "37.7 MB", "2.1 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def minutes(seconds: float) -> str:
    """ "40 s", "12 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
