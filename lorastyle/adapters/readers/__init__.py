"""What other programs make of an adapter file, told by the rules of their own loaders.

Each reader is one file here with three rules: why it refuses a file as a whole, which modules it loses or
changes, and by which factor it scales what it reads. They need the header and the alphas alone. All rules
come from the reader's source, which each names; those of diffusers are also tested against diffusers itself.
Bases that are none of Stable Diffusion 1.x, 2.x and XL are not judged: their files follow other rules.

To add one: a file here with a `Reader`, and its place in `READERS`.
"""

from __future__ import annotations

import os

from ..contents import read_parts
from ..families import family_title
from ..info import read_info
from . import a1111, comfyui, diffusers, forge, invokeai, sd_cpp, sd_scripts
from .reader import Reader, State, Verdict, View, verdict_of

READERS: tuple[Reader, ...] = (
    a1111.READER,
    forge.READER,
    comfyui.READER,
    diffusers.READER,
    invokeai.READER,
    sd_scripts.READER,
    sd_cpp.READER,
)
JUDGED = ("sd1", "sd2", "sdxl")
"""Families whose files the rules are about."""

__all__ = ["JUDGED", "READERS", "Reader", "Verdict", "View", "judge_readers"]


def judge_readers(path: str | os.PathLike[str]) -> tuple[Verdict, ...]:
    """What each of `READERS` makes of the adapter at `path`.

    Raises:
        AdapterFileError: the file is damaged or unsafe, or holds no adapter.
    """
    family = read_info(path).family
    if family not in JUDGED:
        return _all("unknown", f"not judged: it is for {family_title(family)}")
    view = View.of(read_parts(path), family)
    if view.folder:
        return _all("none", "it loads a file, and this is a folder of peft", len(view.modules))
    return tuple(verdict_of(reader, view) for reader in READERS)


def _all(state: State, why: str, modules: int = 0) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(reader.name, state, modules, 0, {}, {}, None, why, reader.source) for reader in READERS
    )
