"""What goes wrong with files and networks in a run is told as what it is."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lorastyle.bases import StableDiffusion, is_out_of_memory
from lorastyle.errors import TrainingError
from lorastyle.train import Begun, Warned, fit
from lorastyle.train.os_errors import describe_os_error
from lorastyle.train.run import RunFolder
from tests.train.running import factors, listener, same, short, stop_at

pytestmark = pytest.mark.usefixtures("quick")


def of(number: int, *paths: str) -> OSError:
    name, other = (*paths, None, None)[:2]
    return OSError(number, os.strerror(number), name, None, other)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (of(errno.ENOSPC), "Cannot write made/ink.run (No space left"),
        (of(errno.ENOSPC, "elsewhere/cache"), "Cannot write elsewhere/cache (No space left"),
        (of(errno.EDQUOT), "Cannot write made/ink.run (Disk quota exceeded"),
        (of(errno.EFBIG, "made/ink.run/checkpoint.safetensors"), "Cannot write made/ink.run/checkpoint"),
        (of(errno.EROFS), "Cannot write made/ink.run (Read-only"),
        (of(errno.EACCES, "made/ink.run/log.jsonl"), "Cannot write made/ink.run/log.jsonl (Permission"),
        (of(errno.EACCES, "made/ink.toml"), "Cannot write made/ink.toml"),
        (of(errno.ENOENT, "made/.lorastyle-1f.tmp", "made/ink.safetensors"), "Cannot write made/ink.safe"),
        (of(errno.ENOENT, "made/ink.run"), "Cannot write made/ink.run (No such file"),
        (of(errno.EIO, "made/ink.run/events.jsonl"), "Cannot write made/ink.run/events.jsonl"),
        (of(errno.ENOENT, "balls/ball1.png"), "Cannot read balls/ball1.png (No such file"),
        (of(errno.EACCES, "balls/ball1.png"), "Cannot read balls/ball1.png (Permission denied"),
        (of(errno.EIO, "balls/ball1.png"), "Cannot read balls/ball1.png (Input/output"),
        (of(errno.ENOENT, "inkwell/a.png"), "Cannot read inkwell/a.png"),
        (of(errno.EMFILE, "balls/ball1.png"), "Too many files are open (Too many open files)"),
        (of(errno.ENFILE), "Too many files are open"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "The network failed (Connect"),
        (TimeoutError("timed out"), "The network failed (timed out)"),
        (socket.gaierror(-3, "Temporary failure in name resolution"), "The network failed (Temporary"),
        (of(errno.ENETUNREACH), "The network failed (Network is unreachable)"),
        (of(errno.EBUSY), "error of the operating system: Device or resource busy"),
        (OSError("No such device (os error 19)"), "error of the operating system: No such device"),
        (OSError(), "error of the operating system: OSError"),
    ],
    ids=str,
)
def test_each_is_told_as_what_it_is(error: OSError, told: str) -> None:
    text = describe_os_error(error, RunFolder(Path("made/ink.safetensors")))
    assert told in text.replace("\\", "/")
    assert ("write" in text.split("(")[0]) == ("write" in told)
    assert text.endswith(".") and "train again" in text


def test_the_next_step_is_to_resume_where_there_is_a_checkpoint(out: Path) -> None:
    run = RunFolder(out)
    run.path.mkdir(parents=True)
    run.checkpoint.touch()
    text = describe_os_error(of(errno.ENOSPC), run)
    assert f'resume: lorastyle train --config "{run.settings}" --resume' in text
    assert "--out" not in text


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (of(errno.EACCES, "/somewhere/ball1.png"), "Cannot read .*ball1.png"),
        (of(errno.EMFILE), "Too many files"),
        (ConnectionResetError("gone"), "The network failed"),
        (of(errno.ENOSPC), "Cannot write .*ink.run"),
        (of(errno.ENOMEM), "The memory of cpu is full"),
    ],
    ids=str,
)
def test_in_a_run(
    base: StableDiffusion,
    images: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    told: str,
) -> None:
    def fails(*_: object) -> Tensor:
        raise error

    monkeypatch.setattr(StableDiffusion, "predict", fails)
    with pytest.raises(TrainingError, match=told):
        fit(short(images, out), base=base)
    assert not out.exists()


def test_too_many_open_files_are_not_a_vanished_picture(
    base: StableDiffusion, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Tensor:
        raise of(errno.EMFILE, str(images / "ball1.png"))

    monkeypatch.setattr("lorastyle.train.fitting.load_pixels", fails)
    with pytest.raises(TrainingError, match="Too many files are open"):
        fit(short(images, out), base=base)


def test_the_listeners_errors_are_its_own(base: StableDiffusion, images: Path, out: Path) -> None:
    error = of(errno.ENOSPC, "a log of the listener's")

    def hear(event: object) -> None:
        if isinstance(event, Begun):
            raise error

    with pytest.raises(OSError, match="a log of the listener's") as told:
        fit(short(images, out), base=base, on_event=hear)
    assert told.value is error


def test_resuming_before_the_first_checkpoint_starts_at_step_0(
    base: StableDiffusion, images: Path, out: Path
) -> None:
    events: list[object] = []
    resumed = fit(short(images, out), base=base, resume=True, on_event=listener(events))
    notes = [event.text for event in events if isinstance(event, Warned)]
    assert notes == [f"There is no checkpoint in {resumed.run} yet: the training starts at step 0."]
    assert [event.step for event in events if isinstance(event, Begun)] == [0] and resumed.steps == 4
    other = out.with_name("other.safetensors")
    fit(short(images, other), base=base)
    assert same(factors(out, base), factors(other, base))


def test_resuming_at_a_checkpoint_says_nothing(base: StableDiffusion, images: Path, out: Path) -> None:
    fit(short(images, out), base=base, on_event=stop_at(2))
    events: list[object] = []
    fit(short(images, out), base=base, resume=True, on_event=listener(events))
    assert [event.step for event in events if isinstance(event, Begun)] == [2]
    assert not [event for event in events if isinstance(event, Warned)]


def test_a_damaged_checkpoint_is_still_refused(base: StableDiffusion, images: Path, out: Path) -> None:
    run = RunFolder(out)
    run.path.mkdir(parents=True)
    run.checkpoint.write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match="damaged"):
        fit(short(images, out), base=base, resume=True)


@pytest.mark.parametrize(
    ("error", "yes"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), True),
        (torch.OutOfMemoryError("full"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (of(errno.ENOMEM), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (of(errno.ENOSPC), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=str,
)
def test_which_errors_say_that_memory_ran_out(error: BaseException, yes: bool) -> None:
    assert is_out_of_memory(error) == yes
