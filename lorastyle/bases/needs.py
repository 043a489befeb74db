"""How many bytes a base wants on its device, and which memory mode fits.

Weights are counted. What a pass through the UNet holds besides them is a number of bytes for each latent
pixel of a batch and each channel of the first level; `python -m benchmarks.memory` computes it from the
architecture, without a card: bfloat16 products, float32 norms, attention that keeps no matrix of all pairs,
as autocast has it on CUDA.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from lorastyle.errors import BaseError

from .host import host_memory
from .memory import MODES, WHOLE, MemoryMode
from .quantised import BYTES, has_bitsandbytes, linear_layers

if TYPE_CHECKING:
    from .stable_diffusion import StableDiffusion

IMAGES_AT_ONCE = 4
"""At most, where there is memory for more: larger batches are hardly quicker for each image."""
PIXELS_AT_ONCE = 1024 * 1024
MOST_PIXELS_WHOLE = 1536 * 1536
"""The autoencoder wants far more than the UNet for a picture: so few pictures at once, and larger ones in
tiles."""
AUTOENCODER = 32
"""Bytes for each pixel and each channel of its first level, in float32: 24 computed, and what cuDNN wants."""
SPARE = 0.9
"""Share of the free memory that is counted on: allocators leave gaps, and other programs want some."""


@dataclass(frozen=True)
class Activations:
    """Bytes for each latent pixel of a batch and each channel of the UNet's first level.

    Attributes:
        drawing: at most at once, without gradients.
        training: kept for the gradient; checkpointed: the same with gradient checkpointing.
    """

    drawing: int
    training: int
    checkpointed: int


ACTIVATIONS: Mapping[str, Activations] = {
    "sd1": Activations(54, 960, 220),
    "sd2": Activations(54, 960, 220),
    "sdxl": Activations(40, 1640, 155),
}
OTHER = Activations(60, 2000, 500)


@dataclass(frozen=True)
class Choice:
    """A memory mode that fits.

    Attributes:
        pictures: how many at once.
        bytes: that it wants; free: bytes that there are.
        why: for people; empty where there was nothing to choose.
    """

    mode: str
    pictures: int
    bytes: int
    free: int
    why: str = ""


@dataclass(frozen=True)
class Attached:
    """What adapters want beside a base.

    Attributes:
        factors: bytes of low-rank factors.
        originals: bytes of weights that others stand in for (LoKr, DoRA and their like): both are kept.
        exact: whether weights must be whole, in 16 or 32 bits, for others to stand in for them.
    """

    factors: int = 0
    originals: int = 0
    exact: bool = False


def free_memory(device: torch.device) -> int:
    """Bytes that a run may count on: the free ones of a GPU, else three quarters of what this process may use
    of the machine's (see `host_memory`), whatever is free now.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return host_memory()[0] * 3 // 4


def device_memory(device: torch.device) -> int:
    """Bytes of a GPU in all, else what `free_memory` says: the same from run to run."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else free_memory(device)


def fits(wanted: int, free: int) -> bool:
    """Whether so many bytes can be counted on."""
    return wanted <= free * SPARE


def weight_bytes(part: nn.Module, bits: int = 0) -> int:
    """Of a part's weights, as they are or with its linear layers in so many bits."""
    tensors = [*part.parameters(), *part.buffers()]
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if bits:
        weights = [layer.weight for layer in linear_layers(part).values()]
        total += sum(int(w.numel() * (BYTES[bits] - w.element_size())) for w in weights)
    return total


def unet_bytes(base: StableDiffusion, mode: MemoryMode) -> int:
    """Of the UNet's weights that are on the device at once."""
    unet = base.components["unet"]
    if mode.sequential:
        return max(
            sum(p.numel() * p.element_size() for p in m.parameters(recurse=False)) for m in unet.modules()
        )
    return weight_bytes(unet, mode.bits)


def words_bytes(base: StableDiffusion, mode: MemoryMode) -> int:
    """Of the text encoders' weights."""
    return sum(weight_bytes(base.components[name], mode.bits) for name in base.text_encoders)


def activations(base: StableDiffusion) -> Activations:
    """Bytes for each latent pixel of a batch, all channels of the first level taken in."""
    known = ACTIVATIONS.get(base.family, OTHER)
    times = int(base.pipe.unet.config.block_out_channels[0]) * (2 if base.dtype == torch.float32 else 1)
    return Activations(known.drawing * times, known.training * times, known.checkpointed * times)


def autoencoder_bytes(base: StableDiffusion, mode: MemoryMode, pixels: int, pictures: int = 1) -> int:
    """Of the autoencoder at work on pictures of so many pixels, its weights included."""
    vae = base.pipe.vae
    at_once = pixels * min(pictures, max(1, PIXELS_AT_ONCE // pixels))
    if pixels > MOST_PIXELS_WHOLE or (mode.tiles and pixels > WHOLE):
        at_once = (mode.tiles or int(vae.tile_sample_min_size)) ** 2
    return weight_bytes(vae) + at_once * int(vae.config.block_out_channels[0]) * AUTOENCODER


def drawing_bytes(
    base: StableDiffusion, mode: MemoryMode, pixels: int, pictures: int, attached: Attached = Attached()
) -> int:
    """Of drawing so many pictures of so many pixels at once, with guidance. Where parts wait elsewhere, what
    others stand in for stays there.
    """
    latent = pixels // base.pixels_per_latent**2
    unet, words = unet_bytes(base, mode) + attached.factors, words_bytes(base, mode)
    unet += 0 if mode.offloads else attached.originals
    denoising = unet + 2 * pictures * latent * activations(base).drawing
    decoding = autoencoder_bytes(base, mode, pixels, pictures)
    if mode.offloads:
        return max(words, denoising, decoding)
    return words + max(denoising + weight_bytes(base.pipe.vae), decoding + unet)


def choose_for_drawing(
    base: StableDiffusion,
    pixels: int | None = None,
    most: int = IMAGES_AT_ONCE,
    attached: Attached = Attached(),
    *,
    mode: str | None = None,
) -> Choice:
    """The first mode that fits: without rounding and with as many pictures at once, then with fewer, then
    with fewer bits, then layer by layer. On anything but a CUDA device it is "fast": there is one memory.

    Args:
        base: with its weights still in the machine's memory.
        pixels: of a picture; None is the base's own size.
        most: pictures at once.
        attached: what the adapters want; where they need exact weights, no other mode is chosen.
        mode: the one that somebody named; then only the number of pictures is chosen, one where nothing fits.

    Raises:
        BaseError: nothing fits; with what each mode would want.
    """
    pixels = pixels or base.resolution**2
    free = free_memory(base.device) + _placed_bytes(base)
    if base.device.type != "cuda":
        mode = mode or "fast"
    if mode is not None:
        counts = [most >> i for i in range(most.bit_length())]
        sizes = {n: drawing_bytes(base, MODES[mode], pixels, n, attached) for n in counts}
        count = next((n for n, size in sizes.items() if fits(size, free)), 1)
        return Choice(mode, count, sizes[count], free)
    wanted = [
        Choice(name, pictures, drawing_bytes(base, MODES[name], pixels, pictures, attached), free)
        for name, pictures in _ways(most, exact=attached.exact)
    ]
    for choice in wanted:
        if fits(choice.bytes, free):
            why = explained(wanted[0].bytes, choice.mode, choice.bytes, free, base.device)
            return Choice(choice.mode, choice.pictures, choice.bytes, free, why)
    raise BaseError(
        f"Drawing {pixels / 1e6:.2f} million pixels does not fit {base.device}: it would want "
        f"{listed({choice.mode: choice.bytes for choice in wanted})}, and {gigabytes(free)} are free. Draw "
        "smaller (--size), close what else uses the card, or name a mode with --memory to try all the same."
    )


def _placed_bytes(base: StableDiffusion) -> int:
    """Of weights that are on a GPU already: what is free there comes on top of them."""
    if base.device.type != "cuda":
        return 0
    parts = base.placement.parts.values()
    return sum(p.nbytes for part in parts for p in part.parameters() if p.device == base.device)


def _ways(most: int, *, exact: bool) -> Iterator[tuple[str, int]]:
    pictures = most
    while pictures:
        yield from (("fast", pictures), ("offload", pictures))
        pictures //= 2
    if exact:
        return
    yield from ((name, 1) for name in rounded_modes())
    yield "sequential", 1


def rounded_modes() -> tuple[str, ...]:
    """Modes of fewer bits that can be used here."""
    return ("int8", "nf4") if has_bitsandbytes() else ("int8",)


def explained(at_first: int, mode: str, wanted: int, free: int, device: torch.device) -> str:
    """A choice in words."""
    told = f"{mode}, about {gigabytes(wanted)} of the {gigabytes(free)} free on {device}"
    return told if mode == "fast" else f'{told} ("fast" would want {gigabytes(at_first)}): {MODES[mode].what}'


def listed(wanted: Mapping[str, int]) -> str:
    """ "fast 12.1 GB, offload 7.0 GB"."""
    return ", ".join(f"{mode} {gigabytes(count)}" for mode, count in wanted.items())


def gigabytes(count: int) -> str:
    """ "7.1 GB"; less than one with two digits."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e9:.2f} GB"
