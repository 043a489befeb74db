"""One checkpoint as the folder of a diffusers pipeline, with adapters added on the way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from torch import nn

from ..quiet import quiet
from ..single_file import inspect_checkpoint, read_checkpoint
from .stored import COMPONENTS, StoredBase, plain_name
from .sums import Sums

_DTYPES = {"F32": torch.float32, "F64": torch.float32, "BF16": torch.bfloat16}


@torch.no_grad()
def write_pipeline(base: StoredBase, sums: Sums, target: Path) -> None:
    """Load the checkpoint, add, and save it in the number type that most of its weights have."""
    checkpoint = inspect_checkpoint(base.path, base.name)
    counted: Counter[str] = Counter()
    for entry in checkpoint.header.tensors.values():
        counted[entry.dtype] += entry.size
    dtype = _DTYPES.get(counted.most_common(1)[0][0], torch.float16)
    with quiet():
        pipe = read_checkpoint(checkpoint, dtype=dtype)
        for component in (part for part in COMPONENTS if part in pipe.components):
            module: nn.Module = pipe.components[component].to(dtype)
            for name, parameter in module.named_parameters():
                parameter.data = sums.tensor(component, plain_name(component, name), parameter.data)
        pipe.vae.to(dtype)
        pipe.save_pretrained(target)
