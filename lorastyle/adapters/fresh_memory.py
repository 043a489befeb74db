"""Memory for many numbers at once.

A system hands fresh memory out in pages of 4 kB, and clearing each as it is first touched takes longer than
reading an adapter's file into it. Linux gives pages of 2 MB to whoever asks.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

_WORTH_ASKING = 4 << 20  # bytes; below, what a page of 2 MB leaves over is too much


def room(count: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    """`count` numbers on the CPU, to be written before they are read."""
    size = count * dtype.itemsize
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None or size < _WORTH_ASKING:
        return torch.empty(count, dtype=dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(advice)
    except OSError:  # a kernel built without them
        return torch.empty(count, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype)  # which keeps the memory until it is gone itself
