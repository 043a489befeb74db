"""How the command line speaks: plain lines, one red error, and progress on a terminal or in a log."""

from __future__ import annotations

import sys
import time
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

INTERRUPTED = 130  # the exit code after Ctrl-C
LOG_EVERY = 10.0  # seconds between progress lines where there is no terminal


def console(stream: TextIO | None = None) -> Console:
    """A console on stdout (or `stream`) that neither wraps nor interprets what it prints."""
    return Console(file=stream or sys.stdout, soft_wrap=True, highlight=False, markup=False, emoji=False)


def say(text: str = "", style: str | None = None) -> None:
    """One line on stdout."""
    console().print(text, style=style)


def print_error(text: str) -> None:
    """One red message on stderr."""
    console(sys.stderr).print(f"error: {text}", style="red")


def note(text: str) -> None:
    """Something worth knowing that stops nothing, on stderr."""
    console(sys.stderr).print(f"note: {text}", style="yellow")


def show_warnings_as_notes() -> None:
    """From now on, warnings of other libraries read as notes, and Pillow's about odd metadata are not shown.

    This changes the whole process, so only `main` calls it, once, before anything else runs.
    """

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        note(str(message))

    warnings.showwarning = show
    warnings.filterwarnings("ignore", module=r"PIL(\.|$)")


def base_line(name: str | None, *, inpainting: bool = False) -> str:
    """Which base it is, and how to get another."""
    from lorastyle.bases import default_base

    name = name or default_base()
    if name == "embedded":
        return "base: embedded icons (128 px) — for photographs: --base FILE, a folder or org/model"
    return f"base: {name}" + " (inpainting)" * inpainting


def duration(seconds: float) -> str:
    """`75` -> `1:15`; `3675` -> `1:01:15`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def file_size(count: int) -> str:
    """Bytes as people say them: `3.1 MB`."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(count / 1e3, 0.1):.1f} KB"


class Steps:
    """One progress bar at a time on a terminal; elsewhere a line now and then, without control codes.

    with Steps() as steps:
        steps.update("training", 10, 600, "loss 0.12")
    """

    def __init__(self) -> None:
        self._console = console()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._logged = 0.0

    def __enter__(self) -> Steps:
        if self._console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                console=self._console,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, what: str, done: int, total: int, detail: str = "") -> None:
        """`done` of `total` of `what`. A new `what` starts a new bar under the finished one."""
        if self._bar is not None:
            if what != self._what or self._task is None:
                self._task = self._bar.add_task(what, total=total, detail=detail)
            self._bar.update(self._task, completed=done, total=total, detail=detail)
        elif what != self._what or done == total or time.monotonic() - self._logged >= LOG_EVERY:
            self._console.print(f"{what} {done}/{total}  {detail}".rstrip())
            self._logged = time.monotonic()
        self._what = what

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text)
