"""The processor, and the graphics cards that the driver knows of."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path


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


def nvidia_cards() -> tuple[str, ...]:
    """Names of the cards that NVIDIA's driver knows of, whether torch can use them or not."""
    listed = _output("nvidia-smi", "-L")
    return tuple(re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", listed, re.MULTILINE))


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
