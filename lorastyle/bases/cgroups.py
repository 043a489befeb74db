"""The control groups (cgroups, versions 1 and 2) that limit this process, from its own to the mounted root.

Source: cgroups(7) and proc(5); Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of Linux.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SELF = Path("/proc/self")


@dataclass(frozen=True)
class _Mount:
    version: int
    controllers: frozenset[str]  # of version 1; version 2 has all of them in one hierarchy
    root: str  # the group that the mount point shows, as /proc/self/cgroup names groups
    point: Path


@dataclass(frozen=True)
class MemoryLimit:
    """A group's limit in bytes, and how much of it is used and cannot be reclaimed."""

    limit: int
    used: int


def memory_limits() -> list[MemoryLimit]:
    """One for each group on the way up that has a limit; every one of them holds for this process."""
    found: list[MemoryLimit] = []
    for version, group in _groups("memory"):
        if version == 2:
            limits, used, cached = ("memory.max", "memory.high"), "memory.current", "inactive_file"
        else:
            limits, used, cached = ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"
        numbers = [n for name in limits if (n := _number(group / name)) is not None]
        if numbers:
            # what was read from files is dropped when memory is needed
            kept = re.search(rf"^{cached} (\d+)", _read(group / "memory.stat"), re.MULTILINE)
            reclaimable = int(kept[1]) if kept else 0
            found.append(MemoryLimit(min(numbers), max(0, (_number(group / used) or 0) - reclaimable)))
    return found


def cpu_limits() -> list[float]:
    """Cores' worth of time that each group on the way up may use, where it has a quota."""
    found: list[float] = []
    for version, group in _groups("cpu"):
        if version == 2:
            quota, _, period = _read(group / "cpu.max").strip().partition(" ")
        else:
            quota, period = (_read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
        if quota.isdigit() and period.isdigit() and int(quota) and int(period):
            found.append(int(quota) / int(period))
    return found


def _groups(controller: str) -> Iterator[tuple[int, Path]]:
    """(version, folder) of this process's group and of each above it that is mounted here."""
    own = list(_own_groups())
    for mount in _mounts():
        wanted = "" if mount.version == 2 else controller
        if mount.version == 1 and controller not in mount.controllers:
            continue
        for controllers, path in own:
            if wanted in controllers:
                below = _below(path, mount.root)
                for depth in range(len(below), -1, -1):
                    yield mount.version, mount.point.joinpath(*below[:depth])


def _below(path: str, root: str) -> list[str]:
    """The names from a mount's root down to a group. A group outside of that root, as a container that shares
    the host's names has it, is the root itself.
    """
    parts, above = ([name for name in text.split("/") if name] for text in (path, root))
    if ".." in parts or parts[: len(above)] != above:
        return []
    return parts[len(above) :]


def _own_groups() -> Iterator[tuple[list[str], str]]:
    """(controllers, path) of each line; version 2 has the empty name for controllers."""
    for line in _read(_SELF / "cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            yield parts[1].split(","), parts[2]


def _mounts() -> Iterator[_Mount]:
    for line in _read(_SELF / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, about = before.split(), after.split()
        if len(fields) < 5 or not about or about[0] not in ("cgroup", "cgroup2"):
            continue
        options = frozenset(about[2].split(",")) if len(about) > 2 else frozenset[str]()
        version = 2 if about[0] == "cgroup2" else 1
        yield _Mount(version, options, _unescaped(fields[3]), Path(_unescaped(fields[4])))


def _unescaped(text: str) -> str:
    r"""Blanks are `\040` in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _number(path: Path) -> int | None:
    """None where there is no such file, or it says "max"."""
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (OSError, ValueError):  # another system, or no such controller: no limit is set
        return ""
