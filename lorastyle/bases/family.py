"""Which family a base belongs to: adapters fit within a family, never across."""

from __future__ import annotations

from lorastyle.adapters import FAMILIES
from lorastyle.errors import BaseError

SUPPORTED = "Stable Diffusion 1.x and 2.x"


def family_from_width(width: int) -> str:
    """The family whose UNet reads text of this width: 768 is "sd1", 1024 "sd2", any other "sd-<width>".

    Raises:
        BaseError: 2048, which is Stable Diffusion XL.
    """
    known = {f.text_width: f.id for f in FAMILIES.values() if f.text_width is not None}
    family = known.get(width, f"sd-{width}")
    if family == "sdxl":
        raise refuse_sdxl("This base")
    return family


def refuse_sdxl(what: str) -> BaseError:
    """The error that says SDXL is not supported yet."""
    return BaseError(
        f"{what} is a Stable Diffusion XL model. lorastyle draws with {SUPPORTED} so far: choose such a "
        'base, or "embedded".'
    )
