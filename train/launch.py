"""Training in a process of its own, which outlives whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from lorastyle.errors import ConfigError, TrainingError

from .config import TrainConfig
from .follow import observe, process_of
from .journal import add_to_journal, start_journal
from .run import RunFolder

_FOLDERS = ("LORASTYLE_HOME", "LORASTYLE_CACHE", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "TMPDIR")
_DEATH = 5.0  # seconds given to a process that has nothing to save


def launch(
    config: TrainConfig, *, resume: bool = False, environment: Mapping[str, str] | None = None
) -> RunFolder:
    """Start `lorastyle train` with these settings, and come back at once; `observe(config.out)` follows it.

    The process belongs to nobody: it goes on when this one ends, or gets a Ctrl-C. What it prints goes to
    output.log in its run folder. `restart` goes on with it, and `request_stop` ends it.

    Args:
        config: with `out`, which says where the run folder is.
        resume: go on from the checkpoint.
        environment: variables on top of this process's own.

    Raises:
        ConfigError: there is no `out`, or its folder cannot be written.
        TrainingError: a run is at work there already.
    """
    if config.out is None:
        raise ConfigError("out is missing: a run that others follow needs its file named.")
    run = RunFolder(Path(config.out))
    if observe(run.adapter).active:
        raise TrainingError(f"A training of {run.adapter.stem} is at work. Wait for its end, or stop it.")
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        run.stop.unlink(missing_ok=True)
        config.to_toml(run.asked)
        start_journal(run, resume)
        _spawn(run, ["--resume"] * resume, environment or {})
    except OSError as error:
        raise ConfigError(
            f'out: "{run.adapter}": the training cannot be started ({error}). Choose another folder.'
        ) from error
    return run


def restart(adapter: str | os.PathLike[str], *, environment: Mapping[str, str] | None = None) -> RunFolder:
    """Start an ended run's process again: from its checkpoint where it has one, else from the beginning.

    Raises:
        ConfigError: the folder holds no settings to start with.
        TrainingError: the run is at work.
    """
    run, resume = RunFolder(Path(adapter)), observe(adapter).can_resume
    for settings in (run.settings, run.asked) if resume else (run.asked, run.settings):
        if settings.exists():
            return launch(TrainConfig.from_toml(settings), resume=resume, environment=environment)
    raise ConfigError(f'"{run.path}" holds no settings of a run that could be started again.')


def request_stop(adapter: str | os.PathLike[str]) -> bool:
    """Ask a living run to save what there is and to end after its step; False where none is at work.

    A process that has not got to its folder yet has nothing to save, and is ended at once.
    """
    run, status = RunFolder(Path(adapter)), observe(adapter)
    if not status.active:
        return False
    if status.state == "queued" and (process := process_of(run)) is not None:
        with suppress(psutil.Error):  # it may have ended by itself
            process.terminate()
            process.wait(_DEATH)
            add_to_journal(run, "stopped", {"text": "stopped before it began"})
            return True
    run.stop.touch()
    return True


def _absolute_folders() -> dict[str, str]:
    """Variables that name folders, as they are meant here: the new process starts in another folder."""
    named = {name: os.environ.get(name) for name in _FOLDERS}
    return {name: os.path.abspath(os.path.expanduser(folder)) for name, folder in named.items() if folder}


def _spawn(run: RunFolder, more: list[str], environment: Mapping[str, str]) -> None:
    """A new session, or on Windows a new group without a console: a Ctrl-C in the terminal is not for it."""
    plain = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    with run.output.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "lorastyle", "train", "--config", str(run.asked), *more],
            cwd=run.path,  # ours may end with us, and what lies in it could be imported
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_absolute_folders(), **plain, **environment},
            creationflags=flags,
            start_new_session=True,
        )
    with suppress(psutil.Error):  # it has ended already
        created = psutil.Process(process.pid).create_time()
        add_to_journal(run, "spawned", {"pid": process.pid, "created": created})
    # Somebody has to take note of its end, or it stays in the table of processes as long as we do.
    threading.Thread(target=process.wait, name=f"end of {run.adapter.stem}", daemon=True).start()
