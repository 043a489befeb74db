"""Latents to colours by one matrix, found by least squares from the base's own autoencoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lorastyle.bases import StableDiffusion

PICTURES, SIDE = 12, 128  # what the matrix is learnt from
RIDGE = 1e-3  # of a latent's variance: without it, channels that say nothing of colour get wild weights


def linear_map(base: StableDiffusion) -> tuple[Tensor, Tensor]:
    """The (3, c) matrix and the (3,) offset that turn latents, as the UNet knows them, into colours -1..1.

    The least-squares fit to made-up pictures, smooth and blocky, whose latents the base's encoder gives:
    right for any autoencoder, with no table of known ones. Takes seconds on a CPU.
    """
    pixels = _made_up_pictures(torch.Generator().manual_seed(0)).to(base.device)
    with torch.no_grad():
        moments = base.encode_images(pixels)
        latents = base.latents(moments, torch.zeros_like(moments.chunk(2, dim=1)[0])).float().cpu()
    colours = F.interpolate(pixels.cpu(), size=latents.shape[-2:], mode="area")
    x = latents.permute(0, 2, 3, 1).flatten(0, 2).double()
    y = colours.permute(0, 2, 3, 1).flatten(0, 2).double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    covariance = (x - mean_x).T @ (x - mean_x)
    ridge = RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.double)
    matrix = torch.linalg.solve(covariance + ridge, (x - mean_x).T @ (y - mean_y)).T
    return matrix.float(), (mean_y - matrix @ mean_x).float()


def linear_sketch(matrix: Tensor, offset: Tensor, latents: Tensor) -> Tensor:
    """(b, c, h, w) -> (b, 3, h, w), about -1..1: a pixel for each latent."""
    return torch.einsum("dc,bchw->bdhw", matrix, latents.float().cpu()) + offset[:, None, None]


def _made_up_pictures(rng: torch.Generator) -> Tensor:
    """(n, 3, s, s) in -1..1: colours of chance that run into each other, and, every second, that do not."""
    made: list[Tensor] = []
    for i in range(PICTURES):
        cells = (3, 4, 6, 8)[i // 2 % 4]
        colours = (torch.rand(1, 3, cells, cells, generator=rng) * 2 - 1) * 1.3
        mode = "nearest" if i % 2 else "bicubic"
        made.append(F.interpolate(colours, size=(SIDE, SIDE), mode=mode).clamp(-1, 1))
    return torch.cat(made)
