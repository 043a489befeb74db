"""A disk that is too small is noticed by the plan, with numbers; the plan says what is written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lorastyle.adapters import disk_space
from lorastyle.bases import StableDiffusion
from lorastyle.errors import ConfigError
from lorastyle.train import Plan, PlanReady, fit, make_plan, scan
from lorastyle.train.disk import disk_use
from tests.train.running import listener, short, stop_at

pytestmark = pytest.mark.usefixtures("quick")
Disk = Callable[[int, str], None]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """So many bytes are free below folders of a name, and plenty elsewhere."""

    def limited(free: int, below: str = "") -> None:
        def usage(path: Path) -> SimpleNamespace:
            return SimpleNamespace(total=1 << 50, free=free if below in str(path) else 1 << 49)

        monkeypatch.setattr(shutil, "disk_usage", usage)

    return limited


def plan_of(
    base: StableDiffusion, images: Path, out: Path, *, resume: bool = False, **changes: object
) -> Plan:
    config = short(images, out, **changes)
    return make_plan(config, base, scan(config), resume=resume)


def test_a_full_disk_is_refused_before_anything_slow(
    base: StableDiffusion, images: Path, out: Path, disk: Disk
) -> None:
    disk(100_000, "")
    events: list[object] = []
    with pytest.raises(ConfigError) as told:
        fit(short(images, out), base=base, on_event=listener(events))
    text = str(told.value)
    assert re.fullmatch(
        rf"There is too little disk space at {re.escape(str(out.parent))}: [\d.]+ MB needed, 0\.1 MB free "
        r"\(.*checkpoints [\d.]+ MB.*\)\. Free some, choose another --out, or write less: .*",
        text,
    )
    assert not out.parent.exists() and not any(isinstance(event, PlanReady) for event in events)


def test_the_plan_says_what_is_written(base: StableDiffusion, images: Path, out: Path, disk: Disk) -> None:
    disk(20_000_000_000, "")
    rows = dict(plan_of(base, images, out, rank=64, steps=200, save_every=50).describe())
    assert re.fullmatch(
        r"at most about [\d.]+ MB of the 20\.0 GB free: checkpoints [\d.]+ MB, adapter [\d.]+ MB, .*",
        rows["disk"],
    )


@pytest.mark.parametrize("steps", [4, 6])
def test_a_run_stays_within_it(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """What lies there when each file is whole and none is renamed yet is the most that is needed."""
    settings: dict[str, Any] = {
        "rank": 16,
        "steps": steps,
        "save_every": 4,
        "sample_every": 1,
        "resolution": 64,
    }
    plan = plan_of(base, images, out, **settings)
    most, replace = 0, __import__("os").replace

    def watched(source: Path, target: Path) -> None:
        nonlocal most
        most = max(most, sum(f.stat().st_size for f in out.parent.rglob("*") if f.is_file()))
        replace(source, target)

    monkeypatch.setattr("os.replace", watched)
    fit(short(images, out, **settings), base=base)
    use = disk_use(plan, base)
    promised = sum(use.beside.values()) - 600_000  # the journal of a run of days
    assert 0.5 * promised < most <= promised + 20_000
    latents = sum(f.stat().st_size for f in (images.parent / "cache" / "latents").rglob("*.safetensors"))
    assert 0.5 * use.latents < latents <= use.latents


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"rank": 8}, "checkpoints"),
        ({"rank": 8}, "adapter"),
        ({"sample_every": 1}, "samples"),
        ({"sample_prompts": ("a", "b", "c")}, "sheet"),
        ({"steps": 1_000}, "log"),
        ({"steps": 1_000, "save_every": 10}, "checkpoints"),
    ],
)
def test_each_setting_counts(
    base: StableDiffusion, images: Path, out: Path, changes: dict[str, Any], more: str
) -> None:
    less, larger = (disk_use(plan_of(base, images, out, **c), base).beside[more] for c in ({}, changes))
    assert larger > less


def test_class_pictures_are_counted_where_they_go(
    base: StableDiffusion,
    images: Path,
    out: Path,
    tmp_path: Path,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    two_disks(monkeypatch, elsewhere)
    settings: dict[str, Any] = {
        "prior": 1.0,
        "prior_images": 50,
        "class_name": "ball",
        "prior_folder": str(elsewhere),
    }
    plan = plan_of(base, images, out, **settings)
    assert disk_use(plan, base).class_pictures == 50 * 64 * 64 * 2
    disk(100_000, "elsewhere")
    with pytest.raises(ConfigError, match=r"elsewhere: 0\.4 MB needed, 0\.1 MB free .*--prior-folder"):
        plan_of(base, images, out, **settings)


def two_disks(monkeypatch: pytest.MonkeyPatch, other: Path) -> None:
    """What is below `other` is on a disk of its own."""
    stat = Path.stat

    def elsewhere(self: Path, *, follow_symlinks: bool = True) -> object:
        found = stat(self, follow_symlinks=follow_symlinks)
        if other != self and other not in self.parents:
            return found
        fields = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return SimpleNamespace(**{**fields, "st_dev": -1})

    monkeypatch.setattr(disk_space.Path, "stat", elsewhere)


def test_latents_that_do_not_fit_are_made_and_not_kept(
    base: StableDiffusion, images: Path, out: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = images.parent / "cache"
    cache.mkdir(exist_ok=True)
    two_disks(monkeypatch, cache)
    disk(1_000, str(cache))
    plan = plan_of(base, images, out)
    assert not plan.keep_latents and plan.disk.endswith("no room to keep latents for the next time")
    assert fit(short(images, out, sheet=False), base=base).steps == 4
    assert not list(cache.rglob("*.safetensors"))
    disk(1 << 40, str(cache))
    assert plan_of(base, images, out).keep_latents


def test_a_checkpoint_that_is_there_needs_no_room_again(
    base: StableDiffusion, images: Path, out: Path, disk: Disk
) -> None:
    settings: dict[str, Any] = {"rank": 64, "steps": 60, "save_every": 50}
    fit(short(images, out, **settings), base=base, on_event=stop_at(1))
    use = disk_use(plan_of(base, images, out, **settings), base)
    disk(sum(use.beside.values()) - 1_000, "")
    with pytest.raises(ConfigError, match="too little disk space"):
        plan_of(base, images, out, **settings)
    assert plan_of(base, images, out, resume=True, **settings)


def test_a_file_system_that_says_nothing_refuses_nothing(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=0, free=0))  # pyright: ignore[reportUnknownLambdaType]
    assert "free" not in plan_of(base, images, out).disk

    def refuses(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(shutil, "disk_usage", refuses)
    assert plan_of(base, images, out).disk
