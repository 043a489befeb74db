"""A small picture of what an adapter draws, as ModelSpec wants it in a file."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

SIDE = 256


def thumbnail(picture: Image.Image) -> str:
    """The picture as a data URL: its middle, 256 x 256, as JPEG, and nothing of what it carried with it.

    Source: https://github.com/Stability-AI/ModelSpec, `modelspec.thumbnail`.
    """
    from PIL import Image, ImageOps

    small = ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
