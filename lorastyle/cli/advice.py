"""Commands that may be recommended about a file: those that were found to work."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from shlex import quote

from .modules import converts
from .names import near

_MOST = 100  # names that are tried


class Advice:
    """What can be done with an adapter file.

    Args:
        path: of the file.
        base: as --base named it.
    """

    def __init__(self, path: Path, base: str | None) -> None:
        self._path, self._base = path, base

    def command(self, name: str, target: str, flags: str = "") -> str | None:
        """The command line that makes another file of it; None where the command would fail.

        Args:
            target: the new file's name without its ending; one that is free is taken.
        """
        if not self._readable:
            return None
        names = (f"{target}{'' if i == 1 else f'-{i}'}.safetensors" for i in range(1, _MOST))
        free = next((name for name in names if not Path(name).exists()), None)
        if free is None:
            return None
        words = ["lorastyle", name, quote(near(self._path.absolute())), free]
        words += ["--base", quote(self._base)] if self._base is not None else []
        return " ".join([*words, *([flags] if flags else [])])

    @cached_property
    def _readable(self) -> bool:
        return converts(self._path, self._base)
