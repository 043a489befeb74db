"""What can compute: each device with its memory, its precisions, and what lorastyle picks on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lorastyle.bases import host_cores, host_memory

from .machine import cpu_name, nvidia_cards
from .rates import Rate, measure_rates


@dataclass(frozen=True)
class Device:
    """One device. What does not apply is None."""

    id: str  # as --device and torch spell it: "cpu", "cuda:0", "mps"
    name: str
    memory_total: int | None = None  # bytes
    memory_free: int | None = None
    cores: int | None = None  # of a CPU: those that this process may use
    threads: int | None = None  # of a CPU: those that torch uses
    capability: str | None = None  # of a CUDA device: "9.0"
    rates: tuple[Rate, ...] = ()
    picks: str | None = None  # what `compute_dtype` answers
    why: str = ""
    error: str = ""  # why it cannot be used, in its own words


@dataclass(frozen=True)
class Hardware:
    """What torch was built for, what it finds, and what the driver knows of."""

    torch_build: str = ""  # "CUDA 12.6", "ROCm 6.2" or "CPU"
    nvidia_cards: tuple[str, ...] = ()  # as NVIDIA's driver names them, whether torch can use them or not
    devices: tuple[Device, ...] = ()  # the one that is used when none is named first


def look_at_hardware() -> Hardware:
    """Every device, measured."""
    import torch

    looks: dict[str, Callable[[str], Device]] = {}
    if torch.cuda.is_available():
        looks |= {f"cuda:{i}": _cuda for i in range(torch.cuda.device_count())}
    if torch.backends.mps.is_available():
        looks["mps"] = _mps
    looks["cpu"] = processor
    devices = tuple(_whole(id, look) for id, look in looks.items())
    return Hardware(_torch_build(), nvidia_cards(), devices)


def _torch_build() -> str:
    """Apple's devices need no build of their own: theirs is called CPU too."""
    import torch

    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    hip = getattr(torch.version, "hip", None)
    return f"ROCm {hip}" if hip else "CPU"


def _whole(id: str, look: Callable[[str], Device]) -> Device:
    """The device with its rates and what is picked on it; a broken one with its error."""
    from lorastyle.bases import compute_dtype

    device = Device(id, id)
    try:
        device = look(id)
        device = replace(device, rates=measure_rates(id))
        picks = str(compute_dtype(id)).removeprefix("torch.")
    except (RuntimeError, AssertionError, OSError) as error:
        return replace(device, error=(str(error).splitlines() or [type(error).__name__])[0])
    return replace(device, picks=picks, why=_why(id.partition(":")[0], picks))


def _why(kind: str, picks: str) -> str:
    """The reason of `compute_dtype`, which see."""
    if kind == "cpu":
        has = "has" if picks == "bfloat16" else "does not have"
        return f"the processor {has} bfloat16 instructions"
    if kind == "cuda" and picks == "float16":
        return "no bfloat16 on this card; training uses float32"
    return "the card has bfloat16" if kind == "cuda" else "right on every device of this kind"


def processor(id: str = "cpu") -> Device:
    """The processor, with the memory and the cores that this process may use."""
    import torch

    total, free = host_memory()
    return Device(id, cpu_name(), total, free, cores=host_cores(), threads=torch.get_num_threads())


def _cuda(id: str) -> Device:
    import torch

    card = torch.cuda.get_device_properties(id)
    free, total = torch.cuda.mem_get_info(id)
    return Device(id, card.name, total, free, capability=f"{card.major}.{card.minor}")


def _mps(id: str) -> Device:
    import torch

    total = torch.mps.recommended_max_memory()
    return Device(id, f"{cpu_name()} GPU", total, max(0, total - torch.mps.driver_allocated_memory()))
