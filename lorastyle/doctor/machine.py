"""The processor and the memory that this process may use, and graphics cards that the driver knows of."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")  # version 2; where there is none, a container's limits are not known


def cpu_name() -> str:
    """`AMD EPYC 7763`, or the architecture where the system does not tell."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # not Linux
        found = None
    if found:
        return found[1].strip()
    if platform.system() == "Darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string").strip() or platform.machine()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use; `taskset` and a container's quota make them fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        allowed = min(allowed, max(1, round(int(quota) / int(period))))
    return allowed


def memory() -> tuple[int, int]:
    """Bytes in all and free, for this process: a container's limit counts."""
    import psutil

    there = psutil.virtual_memory()
    total, free = there.total, there.available
    limit = _read(_CGROUP / "memory.max").strip()
    if limit.isdigit():
        used = int(_read(_CGROUP / "memory.current") or 0)
        # what was read from files is given back when it is wanted
        given_back = re.search(r"^inactive_file (\d+)", _read(_CGROUP / "memory.stat"), re.MULTILINE)
        used -= int(given_back[1]) if given_back else 0
        total, free = min(total, int(limit)), min(free, max(0, int(limit) - used))
    return total, free


def nvidia_cards() -> tuple[str, ...]:
    """Names of the cards that NVIDIA's driver knows of, whether torch can use them or not."""
    listed = _output("nvidia-smi", "-L")
    return tuple(re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", listed, re.MULTILINE))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # not there: no limit is set
        return ""


def _output(*command: str) -> str:
    """What a program prints; nothing where there is none, or it fails or hangs."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        ran = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout if ran.returncode == 0 else ""
