"""Which errors say that memory ran out, a card's or the machine's."""

from __future__ import annotations

import errno
import gc
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# of torch where it has no class of its own for it: on a CPU, and where a library of the card says so
_TEXTS = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|out of memory|std::bad_alloc"
    r"|(?:CUBLAS|CUDNN|CUSOLVER|CUSPARSE|HIPBLAS|MIOPEN)_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, so that the same work in smaller parts may succeed."""
    # torch's class by its name: torch need not be imported for this
    if isinstance(error, MemoryError) or any(c.__name__ == "OutOfMemoryError" for c in type(error).__mro__):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _TEXTS.search(str(error)) is not None


def release_memory(device: torch.device) -> None:
    """Give back what nothing uses any more, before work goes on in smaller parts.

    Call it outside of `except`: the error holds on to the frames that filled the memory.
    """
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
