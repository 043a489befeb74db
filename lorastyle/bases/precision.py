"""Which number type a base computes in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch


def best_device() -> torch.device:
    """A CUDA device, else Apple's, else the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def compute_dtype(device: str | torch.device) -> torch.dtype:
    """The type for the UNet's matrix products on `device`.

    CPU: bfloat16 where the processor has instructions for it, else float32. Never float16: processors
    without float16 arithmetic run it about a hundred times slower. CUDA: bfloat16, on older cards float16.
    Elsewhere float32.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return torch.bfloat16 if cpu_has_bfloat16() else torch.float32
    if kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 natively (AVX512-BF16, AMX, or Arm's BF16).

    oneDNN also accepts bfloat16 where it must be emulated, so its own answer is not enough.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        found = cast(Callable[[], dict[str, object]], capabilities)()
        return any(bool(value) for key, value in found.items() if key.endswith("bf16"))
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:  # not Linux: nothing to read, and float32 is always right
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(words)
