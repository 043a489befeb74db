"""Limits of containers and services: control groups of both versions, nested, and where they are mounted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from lorastyle.bases import cgroups, free_memory, host, host_cores, host_memory
from lorastyle.doctor import devices

GB = 1_000_000_000
Limits = Callable[..., None]


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Limits:
    """A machine of 64 GB, 48 of them free, and 16 cores; makes its control groups."""
    monkeypatch.setattr(cgroups, "_SELF", tmp_path / "proc")

    class Memory:
        total, available = 64 * GB, 48 * GB

    monkeypatch.setattr("psutil.virtual_memory", Memory)
    monkeypatch.setattr(host, "_address_space", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]

    def make(own: str, mounts: str, files: Mapping[str, str]) -> None:
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc" / "cgroup").write_text(own)
        point = str(tmp_path).replace(" ", "\\040")
        (tmp_path / "proc" / "mountinfo").write_text(mounts.replace("AT", point))
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")

    return make


V2 = "31 23 0:28 / AT/cg rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / AT rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / AT/cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / AT/cg/memory rw - cgroup cgroup rw,memory\n"
)
UNLIMITED_V1 = "9223372036854771712"


@pytest.mark.parametrize(
    ("own", "mounts", "files", "expected"),
    [
        ("", "", {}, (64, 48)),
        ("0::/\n", V2, {"cg/cgroup.procs": "1"}, (64, 48)),
        ("0::/\n", V2, {"cg/memory.max": "max", "cg/memory.current": "1"}, (64, 48)),
        (
            "0::/\n",
            V2,
            {
                "cg/memory.max": f"{5 * GB}",
                "cg/memory.current": f"{3 * GB}",
                "cg/memory.stat": f"anon 1\ninactive_file {GB}\nactive_file 7",
            },
            (5, 3),
        ),
        # a service in a slice: the limit is the slice's, the service has none of its own
        (
            "0::/a.slice/b.service\n",
            V2,
            {
                "cg/a.slice/memory.max": f"{4 * GB}",
                "cg/a.slice/memory.current": f"{GB}",
                "cg/a.slice/b.service/memory.max": "max",
            },
            (4, 3),
        ),
        # the total of one group, what is free in another
        (
            "0::/a/b/c\n",
            V2,
            {
                "cg/a/memory.max": f"{10 * GB}",
                "cg/a/memory.current": f"{9 * GB}",
                "cg/a/b/memory.max": f"{6 * GB}",
                "cg/a/b/memory.current": f"{GB}",
            },
            (6, 1),
        ),
        ("0::/\n", V2, {"cg/memory.max": "max", "cg/memory.high": f"{7 * GB}"}, (7, 7)),
        ("0::/\n", V2, {"cg/memory.max": f"{2 * GB}", "cg/memory.current": f"{3 * GB}"}, (2, 0)),
        ("0::/\n", V2, {"cg/memory.max": f"{900 * GB}"}, (64, 48)),
        # a neighbour's limit is not ours
        ("0::/a\n", V2, {"cg/a/memory.max": "max", "cg/ab/memory.max": f"{GB}"}, (64, 48)),
        (
            "4:memory:/docker/1f\n2:cpu,cpuacct:/docker/1f\n",
            V1,
            {
                "cg/memory/memory.limit_in_bytes": UNLIMITED_V1,
                "cg/memory/docker/1f/memory.limit_in_bytes": f"{8 * GB}",
                "cg/memory/docker/1f/memory.usage_in_bytes": f"{5 * GB}",
                "cg/memory/docker/1f/memory.stat": f"cache 5\ninactive_file 9\ntotal_inactive_file {2 * GB}",
            },
            (8, 5),
        ),
        # a container whose mount shows its own group, by the host's name for it
        (
            "4:memory:/docker/1f/inner\n",
            "35 31 0:32 /docker/1f AT/cg/memory rw - cgroup cgroup rw,memory\n",
            {
                "cg/memory/memory.limit_in_bytes": f"{3 * GB}",
                "cg/memory/inner/memory.limit_in_bytes": UNLIMITED_V1,
            },
            (3, 3),
        ),
        # a group that is not to be seen from here: the mount's own limit is what there is
        ("0::/../../elsewhere\n", V2, {"cg/memory.max": f"{2 * GB}"}, (2, 2)),
        ("4:memory:/gone:with:colons\n", V1, {"cg/memory/memory.limit_in_bytes": f"{2 * GB}"}, (2, 2)),
        # version 2 beside version 1 without its controllers
        ("4:memory:/\n0::/\n", V1 + V2, {"cg/memory/memory.limit_in_bytes": f"{2 * GB}"}, (2, 2)),
        # where the root of all groups has another place
        (
            "0::/x\n",
            V2.replace("AT/cg", "AT/a\\040b"),
            {"a b/x/memory.max": f"{2 * GB}"},
            (2, 2),
        ),
        ("not a line\n::\n", "nonsense\n- -\n", {}, (64, 48)),
        ("0::/\n", V2, {"cg/memory.max": "lots", "cg/memory.current": "-5"}, (64, 48)),
    ],
)
def test_the_smallest_limit_on_the_way_up_counts(
    limits: Limits, own: str, mounts: str, files: dict[str, str], expected: tuple[int, int]
) -> None:
    limits(own, mounts, files)
    total, free = host_memory()
    assert (total / GB, free / GB) == expected
    assert free_memory(torch.device("cpu")) == total * 3 // 4
    assert (devices.processor().memory_total, devices.processor().memory_free) == (total, free)


@pytest.mark.parametrize(
    ("own", "mounts", "files", "cores"),
    [
        ("0::/\n", V2, {"cg/cpu.max": "max 100000"}, 16),
        ("0::/\n", V2, {"cg/cpu.max": "250000 100000"}, 2),
        ("0::/\n", V2, {"cg/cpu.max": "50000 100000"}, 1),
        ("0::/a/b\n", V2, {"cg/a/cpu.max": "300000 100000", "cg/a/b/cpu.max": "max 100000"}, 3),
        ("0::/a\n", V2, {"cg/cpu.max": "800000 100000", "cg/a/cpu.max": "400000 100000"}, 4),
        ("0::/\n", V2, {"cg/cpu.max": "nonsense"}, 16),
        (
            "2:cpu,cpuacct:/d\n",
            V1,
            {"cg/cpu/d/cpu.cfs_quota_us": "400000", "cg/cpu/d/cpu.cfs_period_us": "100000"},
            4,
        ),
        (
            "2:cpu,cpuacct:/d\n",
            V1,
            {"cg/cpu/d/cpu.cfs_quota_us": "-1", "cg/cpu/d/cpu.cfs_period_us": "100000"},
            16,
        ),
    ],
)
def test_a_quota_of_cores(limits: Limits, own: str, mounts: str, files: dict[str, str], cores: int) -> None:
    limits(own, mounts, files)
    assert host_cores() == cores
    assert devices.processor().cores == cores


def test_what_the_shell_allows_counts(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    limits("", "", {})
    monkeypatch.setattr(host, "_address_space", lambda: 1 << 60)
    assert host_memory() == (64 * GB, 48 * GB)
    monkeypatch.setattr(host, "_address_space", lambda: 1000)
    assert host_memory() == (1000, 0)


def test_without_psutil_s_answer_a_small_machine_is_assumed(
    limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden() -> None:
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr("psutil.virtual_memory", hidden)
    limits("", "", {})
    assert host_memory() == (8 << 30, 8 << 30)
