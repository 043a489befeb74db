"""What a run is at, read from the files in its folder alone: by any process, at any time, also afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import psutil

from .finish import is_finished
from .journal import read_lines
from .lock import is_held
from .run import RunFolder
from .status import ACTIVE, RunStatus, State

Line = Mapping[str, Any]

_KILLED = "The process ended without a word: it was killed, the memory was full, or the machine went off."
_GRACE = 10.0  # seconds from asking for a process to having one


def observe(adapter: str | os.PathLike[str]) -> RunStatus:
    """What the run that makes `adapter` (a .safetensors file, there or not) is at.

    Never raises for what a killed process or another version left: torn lines and missing files are fine.
    """
    run = RunFolder(Path(adapter))
    held = is_held(run.lock)  # first: whoever lets go of it has written its end before
    events = read_lines(run.events)
    if not (held or events or run.settings.exists()):
        return RunStatus(run.adapter.stem, run.path, "none")
    last = {str(line.get("event")): line for line in events}  # of each kind
    started, prepared, step = (last.get(kind, {}) for kind in ("started", "preparing", "step"))
    ended = last.get("finished", last.get("failed", {}))
    # Until the first step comes, log, samples and checkpoint are still those of an older run.
    own = not events or "begun" in last or any(last.get(k, {}).get("resume") for k in ("asked", "started"))
    losses = _losses(run.log) if own else ()
    state = _state(run, events, last, held)
    return RunStatus(
        name=run.adapter.stem,
        path=run.path,
        state=state,
        stopping=state in ACTIVE and run.stop.exists(),
        trigger=str(started.get("trigger", "")),
        rows=_rows(started.get("rows")),
        what=str(prepared.get("what", "")),
        done=int(_number(prepared.get("done")) or 0),
        total=int(_number(prepared.get("total")) or 0),
        step=losses[-1][0] if losses else 0,
        steps=int(max(_number(started.get("steps")) or 0, losses[-1][0] if losses else 0)),
        losses=losses,
        seconds_left=_seconds_left(step) if state == "training" else None,
        images_per_second=_number(step.get("images_per_second")),
        samples=tuple(sorted(run.samples.glob("step-*.png"))) if own else (),
        warnings=tuple(str(line.get("text")) for line in events if line.get("event") == "warning"),
        error=_error(run, state, last),
        adapter=_file(run, ended.get("adapter")),
        sheet=_file(run, ended.get("sheet")),
        can_resume=own and state in ("stopped", "failed", "crashed") and run.checkpoint.exists(),
        changed=_changed(run),
        seconds=_number(ended.get("seconds")),
    )


def list_runs(folder: str | os.PathLike[str]) -> list[Path]:
    """The adapters in a folder (their files, there or not) that runs make or made, the newest run first."""
    found = [path.with_suffix(".safetensors") for path in Path(folder).glob("*.run") if path.is_dir()]
    return sorted(found, key=lambda adapter: _changed(RunFolder(adapter)), reverse=True)


def process_of(run: RunFolder) -> psutil.Process | None:
    """The living process that was started for the run, by `launch`."""
    lines = [line for line in read_lines(run.events) if line.get("event") == "spawned"]
    return _process(lines[-1]) if lines else None


def _process(spawned: Line) -> psutil.Process | None:
    pid, created = _number(spawned.get("pid")), _number(spawned.get("created"))
    if pid is None or created is None:
        return None
    with suppress(psutil.Error, ValueError, OverflowError):
        process = psutil.Process(int(pid))
        if abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def _state(run: RunFolder, events: Sequence[Line], last: Mapping[str, Line], held: bool) -> State:
    if not events:  # a version of lorastyle that kept no journal
        return "training" if held else "finished" if is_finished(run.adapter) else "stopped"
    if "finished" in last:
        return "stopped" if last["finished"].get("interrupted") else "finished"
    if "failed" in last:
        return "failed"
    if "stopped" in last:
        return "stopped"
    if "started" not in last:
        return "queued" if held or _is_coming(last) else "failed" if _printed_error(run) else "crashed"
    if not held:
        return "crashed"
    if "begun" not in last:
        return "preparing"
    kinds = [line.get("event") for line in events]
    return "finishing" if "preparing" in kinds[kinds.index("begun") :] else "training"


def _is_coming(last: Mapping[str, Line]) -> bool:
    if "spawned" in last:
        return _process(last["spawned"]) is not None
    return 0 <= time.time() - (_number(last.get("asked", {}).get("time")) or 0.0) < _GRACE


def _error(run: RunFolder, state: State, last: Mapping[str, Line]) -> str:
    if state == "crashed":
        return _KILLED
    if state != "failed":
        return ""
    return str(last["failed"].get("error")) if "failed" in last else _printed_error(run)


def _printed_error(run: RunFolder) -> str:
    """What a process said that never got to its folder, such as that its base cannot be loaded."""
    _, found, text = ("\n" + tail(run.output)).rpartition("\nerror: ")
    return text.strip() if found else ""


def printed(adapter: str | os.PathLike[str]) -> str:
    """The end of what the run's process printed; nothing of a run that was started on a terminal."""
    run = RunFolder(Path(adapter))
    started = [line for line in read_lines(run.events) if line.get("event") in ("asked", "started")]
    since = _number(started[-1].get("time")) if started else None
    with suppress(OSError):  # an older run's output stays there
        if since is None or run.output.stat().st_mtime >= since - _GRACE:
            return tail(run.output)
    return ""


def tail(path: Path, most: int = 20_000) -> str:
    """The end of a text file, whole lines; nothing where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            data = file.read()
    except OSError:
        return ""
    return (
        data.decode(errors="replace") if size <= most else data.partition(b"\n")[2].decode(errors="replace")
    )


def _losses(log: Path) -> tuple[tuple[int, float], ...]:
    found: list[tuple[int, float]] = []
    for line in read_lines(log):
        step, loss = _number(line.get("step")), _number(line.get("loss"))
        if step is not None and loss is not None:
            found.append((int(step), loss))
    return tuple(found)


def _rows(value: object) -> tuple[tuple[str, str], ...]:
    rows = cast("list[object]", value) if isinstance(value, list) else []
    pairs = [cast("list[object]", row) for row in rows if isinstance(row, list)]
    return tuple((str(pair[0]), str(pair[1])) for pair in pairs if len(pair) == 2)


def _seconds_left(step: Line) -> float | None:
    left, told = _number(step.get("seconds_left")), _number(step.get("time"))
    return None if left is None or told is None else max(0.0, left - max(0.0, time.time() - told))


def _file(run: RunFolder, name: object) -> Path | None:
    if not isinstance(name, str) or not name:
        return None
    path = Path(os.path.normpath(run.path / name))
    return path if path.exists() else None


def _changed(run: RunFolder) -> float:
    times = [0.0]
    for path in (run.events, run.log, run.path):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
