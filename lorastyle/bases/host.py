"""How much memory and how many cores this process may use: the machine's, within the limits set for it."""

from __future__ import annotations

import os
import sys

from .cgroups import cpu_limits, memory_limits

_UNKNOWN = 8 << 30  # where the system does not say: assume a small machine


def host_memory() -> tuple[int, int]:
    """Bytes in all and free. Limits of containers and services (cgroups) and of the shell (`ulimit -v`)
    count.
    """
    import psutil

    try:
        there = psutil.virtual_memory()
        total, free = int(there.total), int(there.available)
    except (OSError, RuntimeError, ValueError, psutil.Error):  # /proc is hidden, as some sandboxes do
        total = free = _UNKNOWN
    for group in memory_limits():
        total = min(total, group.limit)
        free = min(free, max(0, group.limit - group.used))
    if (limit := _address_space()) is not None:
        total = min(total, limit)
        free = min(free, max(0, limit - int(psutil.Process().memory_info().vms)))
    return total, free


def host_cores() -> int:
    """Cores; `taskset` and a container's quota leave fewer than the machine has. At least one."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min([allowed, *(round(quota) for quota in cpu_limits())]))


def _address_space() -> int | None:
    """Bytes that `ulimit -v` allows; None where it is unlimited."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft
