"""The Tucker core of a convolution's factors, folded into one of them."""

from __future__ import annotations

import torch
from torch import Tensor

from lorastyle.errors import AdapterError

MOST_NUMBERS = 2**25
"""In one factor or difference. The largest weight of a Stable Diffusion has 29.5 million; a small file must
not be able to ask for much more than it holds.
"""


def with_core(core: Tensor, down: Tensor) -> Tensor:
    """`core` (r, r, h, w) after `down` (r, in), as one down factor (r, in, h, w).

    Raises:
        AdapterError: they do not go together, or make too many numbers.
    """
    fits = core.ndim == 4 and down.ndim == 2 and core.shape[1] == down.shape[0]
    if not fits or core.shape[0] * down.shape[1] * core.shape[2:].numel() > MOST_NUMBERS:
        raise AdapterError(f"a core of shape {tuple(core.shape)} for a factor {tuple(down.shape)}")
    return torch.einsum("ijhw,jq->iqhw", core, down)
