"""What drawing makes."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from .request import GenerateRequest


@dataclass(frozen=True)
class Picture:
    """A picture, and the request that draws just this one: its own seed, number 1, nothing left open."""

    image: Image.Image
    request: GenerateRequest
