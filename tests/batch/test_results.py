"""What was drawn is known again; what is damaged is drawn again; what is not ours is left alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorastyle.batch import History, Job, Outcome, Plan, Results, make_plan, resolve, run
from lorastyle.errors import ConfigError, PictureError
from lorastyle.generate import GenerateRequest, read_request
from lorastyle.generate.engine import Picture

from .conftest import Expand, paint

TEXT = "matrix: {prompt: [a, b], seed: 1:2}"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def go(expanded: Expand, out: Path) -> Callable[..., list[Outcome]]:
    """Draw what is left of a manifest."""

    def draw(
        text: str = TEXT,
        draw: Callable[[GenerateRequest], Picture] = paint,
        template: str | None = None,
        **options: Any,
    ) -> list[Outcome]:
        expansion = expanded(text, template=template)
        with Results.opened(out) as results:
            plan = make_plan(expansion, results.history, Path(), **options)
            return list(run(plan.todo, draw, results))

    return draw


Go = Callable[..., list[Outcome]]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("results")
    }


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_each_picture_is_kept_with_its_request_and_a_line(go: Go, out: Path) -> None:
    outcomes = go()
    assert [o.path.name for o in outcomes if o.path] == [
        "00001-1-a.png",
        "00002-2-a.png",
        "00003-1-b.png",
        "00004-2-b.png",
    ]
    assert sorted(path.name for path in out.iterdir()) == [*files(out), "results.jsonl"]
    for outcome, line in zip(outcomes, lines(out), strict=True):
        assert outcome.path is not None and read_request(outcome.path) == outcome.job.request
        assert (line["id"], line["file"]) == (outcome.job.id, outcome.path.name)
        assert line["bytes"] == outcome.path.stat().st_size


def test_a_second_run_draws_nothing(go: Go, out: Path) -> None:
    go()
    before = files(out)
    assert go() == [] and files(out) == before and len(lines(out)) == 4


@pytest.mark.parametrize("verify", [False, True])
def test_what_is_missing_or_damaged_is_drawn_again(go: Go, out: Path, verify: bool) -> None:
    go()
    before = files(out)
    whole = before["00002-2-a.png"]
    (out / "00001-1-a.png").unlink()
    (out / "00002-2-a.png").write_bytes(whole[:-20])
    flipped = bytearray(before["00003-1-b.png"])
    flipped[-20] ^= 1
    (out / "00003-1-b.png").write_bytes(flipped)
    assert [o.job.item.index for o in go(read=verify)] == [1, 2, 3]
    after = files(out)
    assert {name: after.pop(f"{name}.damaged") for name in ("00002-2-a.png", "00003-1-b.png")} == {
        "00002-2-a.png": whole[:-20],
        "00003-1-b.png": bytes(flipped),
    }
    assert after == before
    assert go(read=verify) == []


def test_damage_that_times_do_not_show_is_found_by_reading(go: Go, out: Path) -> None:
    go()
    path = out / "00001-1-a.png"
    about, data = path.stat(), bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert go() == []
    assert [o.job.item.index for o in go(read=True)] == [1]


def test_files_that_were_copied_are_intact(go: Go, out: Path) -> None:
    go()
    for path in out.glob("*.png"):
        os.utime(path)
    assert go() == []


def test_files_of_others_are_left_alone(go: Go, out: Path) -> None:
    out.mkdir()
    (out / "00001-1-a.png").write_bytes(b"mine")
    (out / "00002-2-A.PNG").mkdir()
    first = go()[0]
    assert (out / "00001-1-a.png").read_bytes() == b"mine"
    assert first.path == out / f"00001-1-a-{first.job.id[:8]}.png"
    assert go() == []


def test_damaged_twice_keeps_both(go: Go, out: Path) -> None:
    go()
    for text in (b"one", b"two"):
        (out / "00001-1-a.png").write_bytes(text)
        go()
    kept = files(out)
    assert (kept["00001-1-a.png.damaged"], kept["00001-1-a.png.damaged-2"]) == (b"one", b"two")


def test_a_lost_record_does_not_make_second_copies(go: Go, out: Path) -> None:
    go()
    before = files(out)
    (out / "results.jsonl").unlink()
    assert len(go()) == 4 and files(out) == before


def test_another_manifest_in_the_same_folder(go: Go, out: Path) -> None:
    go()
    before = files(out)
    go("items: [{prompt: c, seed: 1, name: 00001-1-a}]")
    after = files(out)
    assert before.items() < after.items() and len(after) == 5
    assert go() == []


def test_a_name_that_another_picture_took_meanwhile(go: Go, out: Path) -> None:
    """a is gone, b takes its name, a comes back: b stays."""
    go("items: [{prompt: a, seed: 1, name: x}]")
    (out / "x.png").unlink()
    go("items: [{prompt: b, seed: 1, name: x}]")
    taken = (out / "x.png").read_bytes()
    (back,) = go("items: [{prompt: a, seed: 1, name: x}]")
    assert (out / "x.png").read_bytes() == taken and back.path != out / "x.png"
    assert go("items: [{prompt: b, seed: 1, name: x}]") == []


def test_an_item_put_in_front_draws_one_picture(go: Go, out: Path) -> None:
    go("items: [{prompt: a}, {prompt: b}]")
    assert [o.job.item.request.prompt for o in go("items: [{prompt: new}, {prompt: a}, {prompt: b}]")] == [
        "new"
    ]


def broken(request: GenerateRequest) -> Picture:
    if request.prompt == "a":
        raise RuntimeError("out of memory")
    return paint(request)


def test_a_failure_stops_no_other_and_is_not_tried_again_unasked(go: Go, out: Path) -> None:
    outcomes = go(draw=broken)
    assert [o.error for o in outcomes] == ["RuntimeError: out of memory"] * 2 + [None] * 2
    assert [line.get("error") for line in lines(out)] == ["RuntimeError: out of memory"] * 2 + [None] * 2
    assert go() == []
    assert [o.error for o in go(retry_failed=True)] == [None, None]
    assert go(retry_failed=True) == [] and len(files(out)) == 4


def test_a_torn_line_is_passed_over(go: Go, out: Path) -> None:
    go()
    record = out / "results.jsonl"
    record.write_bytes(record.read_bytes()[:-30])
    (again,) = go()
    assert again.job.item.index == 4 and len(files(out)) == 4
    assert History.read(out).unread == 1 and go() == []


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "3",
        "{}",
        '{"id": "x"}',
        '{"id": "x", "file": "../../etc/passwd", "sha256": "", "bytes": 0, "modified": 0}',
        '{"id": "x", "file": "/etc/passwd", "sha256": "", "bytes": 0, "modified": 0}',
        '{"id": "x", "file": 3, "sha256": "", "bytes": "much", "modified": 0}',
        "[" * 10_000,
        "\x00\xff",
    ],
)
def test_lines_that_say_nothing(out: Path, line: str) -> None:
    out.mkdir()
    (out / "results.jsonl").write_bytes(line.encode("latin-1") + b"\n")
    history = History.read(out)
    assert (history.unread, history.drawn, history.failed) == (1, {}, {})


def test_two_runs_do_not_share_a_shard(out: Path) -> None:
    with Results.opened(out), Results.opened(out, (1, 2)):
        with pytest.raises(ConfigError, match="Another run draws into"), Results.opened(out):
            pass
        with pytest.raises(ConfigError, match="or --shard"), Results.opened(out, (1, 2)):
            pass
    with Results.opened(out):
        pass
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_shards_together_are_one_run(expanded: Expand, tmp_path: Path) -> None:
    expansion = expanded("matrix: {prompt: [a, b, c], seed: 1:5}")
    folders = tmp_path / "one", tmp_path / "many"
    parts = {folders[0]: [(1, 1)], folders[1]: [(3, 3), (1, 3), (2, 3)]}
    for folder, shards in parts.items():
        for part in shards:
            with Results.opened(folder, part) as results:
                plan = make_plan(expansion, results.history, Path(), part=part)
                assert len(list(run(plan.todo, paint, results))) == 15 // len(shards)
    assert files(folders[0]) == files(folders[1]) != {}
    plan: Plan = make_plan(expansion, History.read(folders[1]), Path())
    assert plan.todo == () and {state for _, state in plan.jobs} == {"drawn"}


def test_a_disk_that_is_full_ends_the_run_and_is_not_the_picture_s_fault(
    go: Go, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("lorastyle.batch.results.move_new", full)
        with pytest.raises(PictureError, match=r"No space left on device.*run the same command again"):
            go()
    assert files(out) == {}
    assert len(go()) == 4 and len(files(out)) == 4


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"), Results.opened(tmp_path / "file" / "out"):
        pass


def test_without_metadata(expanded: Expand, out: Path) -> None:
    with Results.opened(out) as results:
        jobs, _ = resolve(expanded(TEXT).items, Path())
        (outcome, *_) = run(jobs, paint, results, metadata=False)
    assert outcome.path is not None
    with Image.open(outcome.path) as picture:
        assert dict(picture.info) == {}


def test_sheets_replace_their_own_kind_and_nothing_else(out: Path) -> None:
    out.mkdir()
    (out / "grid.png").write_bytes(b"mine")
    with Results.opened(out) as results:
        assert results.keep_sheet("grid.png", "a", b"1").name == "grid-2.png"
        assert results.keep_sheet("grid.png", "a", b"2").name == "grid-2.png"
        assert results.keep_sheet("grid.png", "b", b"3").name == "grid-3.png"
    assert files(out) == {"grid-2.png": b"2", "grid-3.png": b"3", "grid.png": b"mine"}


def test_ids_are_those_of_the_jobs(expanded: Expand) -> None:
    jobs: list[Job] = resolve(expanded(TEXT).items, Path())[0]
    assert len({job.id for job in jobs}) == 4 and all(len(job.id) == 16 for job in jobs)
