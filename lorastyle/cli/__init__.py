"""The command line: one file a command, listed in `COMMANDS`.

To add a command: a file here with a function of that name, and its line in `COMMANDS`. The file is imported
when the command runs, so `lorastyle --help` and `lorastyle info` stay instant; import torch only inside a
command that needs it.

Exit codes: 0 done, 1 an error that was explained, 2 a misspelt command line, 3 some of a batch is not drawn,
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from cyclopts.exceptions import UnusedCliTokensError
from rich.text import Text

from lorastyle.errors import LorastyleError
from lorastyle.notes import listening

from .console import INTERRUPTED, console, note, print_error, show_warnings_as_notes

__all__ = ["main"]

COMMANDS = {
    "train": "Make an adapter from a folder of images.",
    "generate": "Draw pictures from words, with adapters.",
    "batch": "Draw many pictures from one file; stopped, it goes on.",
    "grid": "Draw every value of one setting against every value of another, with labels.",
    "convert": "Write an adapter in another form, and prove that it is the same.",
    "verify": "Compare two adapter files, whatever their forms.",
    "resize": "Make an adapter file smaller, with the error that it costs.",
    "merge": "Make one adapter of several, exactly or at a lower rank.",
    "interference": "Say how much adapters have in common, and which scales keep a stack from overcooking.",
    "extract": "Make an adapter of the difference of two models.",
    "fuse": "Write a whole base with adapters added to it.",
    "publish": "Put an adapter on the Hugging Face Hub, after a look at what would be sent.",
    "info": "Say what is in an adapter file, or which settings drew a picture.",
    "inspect": "Look into an adapter's tensors: strength by block, the rank that is used, what is broken.",
    "library": "Your adapters by name: list, add, rename, tag, remove and put back.",
    "demo": "Train on the sticker sample and draw with the result: the whole thing in two minutes.",
    "ui": "Draw and train in the browser.",
    "doctor": "Say what is here to work with and what is wrong with it, ready to paste into a bug report.",
    "version": "Print the versions only.",
}


def _version() -> str:
    from importlib.metadata import version

    return version("lorastyle")


STRAY_WORDS = {
    "train": " The folder of your pictures is named so: --images FOLDER.",
    "generate": " A prompt of several words stands in quotes.",
}


def _red(error: CycloptsError) -> Text:
    told = _stray(error) if isinstance(error, UnusedCliTokensError) else str(error)
    return Text(f"error: {told}\nSee lorastyle {' '.join([*(error.command_chain or ()), '--help'])}", "red")


def _stray(error: UnusedCliTokensError) -> str:
    """Words that belong to no flag, and what most often was meant by them."""
    words = " ".join(f'"{word}"' for word in error.unused_tokens or ())
    command = (*(error.command_chain or ()), "")[0]
    return f"There is no flag before {words}.{STRAY_WORDS.get(command, '')}"


def build_app() -> App:
    """The commands as a cyclopts application."""
    app = App(
        name="lorastyle",
        help="Make a small adapter from a handful of images, and draw with it.",
        help_format="plaintext",
        version=_version,
        error_formatter=_red,
        error_console=console(sys.stderr),
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for name, summary in COMMANDS.items():
        app.command(f"lorastyle.cli.{name}:{name}", name=name, help=summary)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's own) and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a name that the terminal cannot spell must not end a training run
            reconfigure(errors="replace")
    if arguments is None:  # the process is the command line's own
        show_warnings_as_notes()
    try:
        with listening(note):
            result = build_app()(list(sys.argv[1:] if arguments is None else arguments))
            if sys.stdout is not None:  # closed by whoever started us  # pyright: ignore[reportUnnecessaryComparison]
                sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except CycloptsError:
        return 2
    except LorastyleError as error:
        print_error(str(error))
        return 1
    except KeyboardInterrupt as interrupt:
        print_error(str(interrupt) or "stopped")
        return INTERRUPTED
    except BrokenPipeError:  # `lorastyle info file | head -1`
        _close_output()
        return 1
    except OSError as error:  # a full disk behind `>`
        _close_output()
        print_error(f"the output cannot be written ({error.strerror or error})")
        return 1


def _close_output() -> None:
    """Or Python would complain at its end that what is left cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
