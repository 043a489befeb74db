"""Colours of pictures: from any profile to sRGB, from any depth to 8 bits."""

from __future__ import annotations

from io import BytesIO
from typing import cast

import numpy as np
from PIL import Image, ImageCms

_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # an ICC colour space and its mode in Pillow


def eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits, scaled; Pillow's own conversion clips everything above 255 to white.

    A level that the file calls transparent becomes the alpha channel.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("some of its levels are not numbers")
    highest = float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and highest <= 65535):
        top = 65535.0
    else:  # 32 bits: floating point goes up to 1 or 255 by custom, whole numbers up to anything
        top = 1.0 if highest <= 1 else 255.0 if image.mode == "F" and highest <= 255 else highest
    made = Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
    if isinstance(clear := cast(object, image.info.get("transparency")), int):
        made.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return made


def to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Through the embedded ICC profile, if there is one. Transparency is kept; notes say what was done."""
    if not profile:
        if image.mode == "CMYK":
            notes.append("CMYK without a colour profile: its colours are approximate")
        return image
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        mode = _PROFILE_MODES.get(str(getattr(source.profile, "xcolor_space", "")).strip())
        if mode == "RGB" and "srgb" in name.lower() and image.mode != "CMYK":
            return image
        colour, alpha = _split(image)
        if mode == "RGB" and colour.mode == "L":
            colour = colour.convert("RGB")  # grey pictures are often saved with an RGB profile
        if mode != colour.mode:
            notes.append(f'its colour profile "{name}" is for other pictures and was left out')
            return image
        made = ImageCms.profileToProfile(colour, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        notes.append("its colour profile is damaged and was left out")
        return image
    made = cast(Image.Image, made)
    if alpha is not None:
        made.putalpha(alpha)
    made.info.pop("transparency", None)  # it has become the alpha channel
    notes.append(f'colours converted from "{name}" to sRGB')
    return made


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours in L, RGB or CMYK, and the transparency if there is any."""
    if image.mode in ("L", "RGB", "CMYK") and "transparency" not in image.info:
        return image, None
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return layer.convert("L" if image.mode in ("L", "LA") else "RGB"), layer.getchannel("A")
    return image.convert("L" if image.mode == "1" else "RGB"), None
