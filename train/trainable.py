"""Which bases can be trained on."""

from __future__ import annotations

import torch

from lorastyle.adapters import family_title
from lorastyle.bases import AUTO, StableDiffusion, load_base, peek_base
from lorastyle.errors import BaseError
from lorastyle.hub import standard_model

from .config import TrainConfig

_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


def load_trainable(config: TrainConfig) -> StableDiffusion:
    """The base of these settings, in a type that gradients survive.

    Raises:
        BaseError: it cannot be loaded, or is an inpainting model; of a folder or file that is told at once.
    """
    peeked = peek_base(config.base)
    if peeked is not None and peeked.inpainting:
        raise _inpainting(config.base, peeked.family)
    memory = None if config.memory == AUTO else config.memory  # the plan settles what is left open
    base = load_base(config.base, dtype=_DTYPES[config.precision], memory=memory)
    if base.dtype == torch.float16:  # its gradients underflow; older cards train in float32
        base = load_base(config.base, dtype=torch.float32, memory=memory)
    return trainable(base)


def trainable(base: StableDiffusion) -> StableDiffusion:
    """`base` itself.

    Raises:
        BaseError: it is an inpainting model, or in float16.
    """
    if base.inpainting:
        raise _inpainting(base.name, base.family)
    if base.dtype == torch.float16:
        raise BaseError(
            "This base is in float16, where gradients underflow. Load it for training with "
            "load_base(..., dtype=torch.bfloat16), or torch.float32 on cards without bfloat16."
        )
    return base


def _inpainting(name: str, family: str) -> BaseError:
    """Both have the same modules but for the first convolution, which no preset takes."""
    sibling = standard_model(family)
    example = "" if sibling is None else f", such as {sibling}"
    return BaseError(
        f'The base "{name}" is an inpainting model ({family_title(family)}), which lorastyle does not train '
        f"on. Train on its text-to-image sibling{example}: the adapter fits this one too."
    )
