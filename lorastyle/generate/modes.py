"""How low-rank adapters act while a request is drawn: as a bank beside the weights, or fused into them.

Fusing takes a moment and the memory of the weights once more; then a step costs what it costs without
adapters. In float32 both draw the same picture, up to the order in which sums are taken. Where bfloat16 is
computed in, both are as near to that, and not quite the same; so which of them is taken depends on the
request and the machine, and on nothing that changes from run to run.
"""

from __future__ import annotations

from lorastyle.bank import AdapterBank
from lorastyle.bases import StableDiffusion, free_memory
from lorastyle.errors import ConfigError, near_miss

from .request import GenerateRequest

MODES = ("auto", "bank", "fused")
FEWEST_STEPS = 8  # fusing takes what the bank costs in 2 to 5 of them
SHARE = 0.1  # of the memory that a run may count on, for weights that are kept a second time


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

    The answer is the same for a picture of a request and for all of its pictures.

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
    if moving or request.combine is not None or request.steps < FEWEST_STEPS or base.device.type != "cpu":
        return False  # on a card a fused call saves little, and how much memory is free changes
    size = bank.fused_size()
    return size is not None and 0 < size <= free_memory(base.device) * SHARE
