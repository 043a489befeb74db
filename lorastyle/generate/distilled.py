"""Adapters for few steps, told by their names."""

from __future__ import annotations

import re
from pathlib import Path

from .request import GenerateRequest

_LCM = re.compile(r"(?i)(?<![a-z])lcm(?![a-z])")


def distilled(request: GenerateRequest) -> str | None:
    """The adapter in use that is named as one for few steps (Luo et al. 2023, arXiv:2311.05556)."""
    uses = (use for use in request.adapters if use.scale_on("unet") > 0 and _LCM.search(Path(use.name).stem))
    return next((use.name for use in uses), None)
