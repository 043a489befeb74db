"""The command line that draws a picture again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lorastyle.generate import GenerateRequest


def command_line(request: GenerateRequest, names: Mapping[Path, str], *, base: str | None) -> str:
    """`lorastyle generate ...` for sh, bash or zsh, with everything stated that the picture depends on.

    Args:
        request: what drew the picture, nothing left open.
        names: how adapters are called outside of this page, by their files.
        base: what `--base` must say; None where it is the base that is used when none is named.
    """
    uses = [
        str(replace(use, name=names.get(use.file, use.name) if use.file else use.name))
        for use in request.adapters
    ]
    flags: dict[str, object] = {
        "--negative": request.negative_prompt or None,
        "--seed": request.seed,
        "--number": request.number if request.number != 1 else None,
        "--size": f"{request.width}x{request.height}" if request.width and request.height else None,
        "--steps": request.steps,
        "--guidance": request.guidance,
        "--guidance-rescale": request.guidance_rescale,
        "--clip-skip": request.clip_skip if request.clip_skip != 1 else None,
        "--scheduler": request.scheduler,
        "--hires": request.hires if request.hires != 1 else None,
        "--hires-strength": request.hires_strength if request.hires != 1 else None,
        "--init": request.init and Path(request.init).name,
        "--strength": request.strength if request.init else None,
        "--mask": request.mask and Path(request.mask).name,
        "--base": base,
    }
    words = ["lorastyle", "generate"]
    words += [word for use in uses for word in _flag("-a", "--adapter", use)]
    words += [word for flag, value in flags.items() if value is not None for word in _flag(flag, flag, value)]
    # What begins with a hyphen would be taken for a flag; after "--" nothing is.
    prompt = ["--", request.prompt] if request.prompt.startswith("-") else [request.prompt]
    words = [*words, *prompt] if prompt[0] == "--" else [*words[:2], *prompt, *words[2:]]
    return shlex.join(words)


def _flag(short: str, long: str, value: object) -> list[str]:
    text = str(value)
    return [f"{long}={text}"] if text.startswith("-") else [short, text]
