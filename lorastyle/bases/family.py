"""Which family a base belongs to: adapters fit within a family, never across."""

from __future__ import annotations

from lorastyle.adapters import FAMILIES

SUPPORTED = "Stable Diffusion 1.x, 2.x and XL"


def family_from_width(width: int) -> str:
    """The family whose UNet reads text of this width: 768 is "sd1", 1024 "sd2", 2048 "sdxl", or "sd-<w>"."""
    known = {f.text_width: f.id for f in FAMILIES.values() if f.text_width is not None}
    return known.get(width, f"sd-{width}")
