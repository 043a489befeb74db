"""Writing dotted names as diffusers does: `unet.<path>.lora_A.weight`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lora_tensors import peft_tensors
from .naming import with_text_model

if TYPE_CHECKING:
    from torch import Tensor

    from ..adapter import Adapter


def write(adapter: Adapter) -> dict[str, Tensor]:
    """The tensors of a dotted file, of an adapter whose scales are folded into `up`: alpha is the rank, and
    no reader needs a number that this family has no place for.
    """
    tensors: dict[str, Tensor] = {}
    for component, path, update in (*adapter.updates(), *adapter.dense_updates()):
        name = f"{component}.{path if component == 'unet' else with_text_model(path)}"
        tensors |= {f"{name}.{end}": tensor for end, tensor in peft_tensors(update).items()}
    return tensors
