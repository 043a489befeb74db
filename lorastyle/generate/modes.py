"""How low-rank adapters act while a request is drawn: as a bank beside the weights, or fused into them.

Fusing takes a moment and the memory of the weights once more; then a step costs what it costs without
adapters. In float32 both draw the same picture, up to the order in which sums are taken. Where bfloat16 is
computed in, both are as near to that, and not quite the same; so which of them is taken depends on the
request and the machine, and on nothing that changes from run to run.

When it pays, by what benchmarks/RESULTS.md has of one call of the UNet with guidance, rank 16 on attention:

    device, base                  beside (ms)   fused (ms)   saved a call
    H200, SD 1.5, batch 2 and 8   38.5, 40.3    28.5, 32.0   10.0, 8.3 ms, whatever the number of adapters
    H200, SDXL, batch 2 and 8     127, 155      78.9, 141    48, 14 ms
    CPU, SD 1.5, float32          1.02 to 1.11 of the base's time; fused 0.97 to 1.01

Fusing once costs what the bank costs in 2 to 5 calls: measured on a CPU, and on a card reckoned from the same
work, some ten short kernels for each layer against the four that the bank adds to a call of it (80
microseconds a layer). From `FEWEST_CALLS` on it pays in every row.
"""

from __future__ import annotations

from typing import cast

from lorastyle.bank import AdapterBank
from lorastyle.bases import (
    Attached,
    StableDiffusion,
    device_memory,
    drawing_bytes,
    fits,
    free_memory,
)
from lorastyle.errors import ConfigError, near_miss

from .request import GenerateRequest
from .sampling import steps_taken

MODES = ("auto", "bank", "fused")
FEWEST_CALLS = 8
SHARE = 0.1  # of the machine's memory that a run may count on, for weights that are kept a second time


def check_mode(mode: str) -> str:
    """The mode, if it is one.

    Raises:
        ConfigError: it is not.
    """
    if mode not in MODES:
        raise ConfigError(f'mode is "{mode}"; allowed are {", ".join(MODES)}.{near_miss(mode, MODES)}')
    return mode


def fuses(mode: str, base: StableDiffusion, bank: AdapterBank, request: GenerateRequest) -> bool:
    """Whether to fuse the adapters, set for `request`, before it is drawn.

    The answer is the same for a picture of a request and for all of its pictures, and whatever else uses the
    device.

    Raises:
        ConfigError: it is to be fused, and has an adapter whose strength is not the same at all times and
            places.
    """
    moving = [use.name for use in request.adapters if use.is_used and (use.by_step or use.mask or use.words)]
    if mode == "fused" and moving:
        raise ConfigError(
            f'The adapter "{moving[0]}" acts at some steps or in a part of the picture only, and fused '
            "weights are the same throughout. Draw in the mode bank (or auto)."
        )
    if mode == "fused" and request.combine is not None:
        raise ConfigError(
            f'combine is "{request.combine}", which has adapters act apart from each other, and fused '
            "weights have all of them in. Draw in the mode bank (or auto)."
        )
    if mode != "auto":
        return mode == "fused"
    if moving or request.combine is not None or _calls(request) < FEWEST_CALLS:
        return False
    if base.device.type == "cpu":
        size = bank.fused_size()
        return size is not None and 0 < size <= free_memory(base.device) * SHARE
    if base.device.type != "cuda" or base.placement.mode.offloads:
        return False  # not measured elsewhere; weights that wait in the machine's memory would be fused there
    size = bank.fused_size(rounded=True)
    return bool(size) and fits(_drawing_bytes(base, request, size), device_memory(base.device))


def _calls(request: GenerateRequest) -> int:
    """How often the UNet is asked about a picture, at least."""
    first = 1.0 if request.strength is None else request.strength
    again = 0.0 if request.hires == 1 else cast(float, request.hires_strength)
    return steps_taken(request.steps, first) + steps_taken(request.steps, again)


def _drawing_bytes(base: StableDiffusion, request: GenerateRequest, size: int) -> int:
    """Of one picture with so many bytes of weights kept a second time."""
    width, height = request.width or base.resolution, request.height or base.resolution
    pixels = round(width * height * request.hires**2)
    return drawing_bytes(base, base.placement.mode, pixels, 1, Attached(originals=size))
