"""What a request leaves open, settled by the base that it is drawn with."""

from __future__ import annotations

import secrets
from dataclasses import replace

from lorastyle.bases import StableDiffusion
from lorastyle.errors import ConfigError
from lorastyle.notes import note

from .canvas import picture_size, strength_for
from .claims import with_claims_read
from .distilled import distilled
from .request import HIRES_STRENGTH, GenerateRequest
from .schedulers import name_of


def complete(request: GenerateRequest, base: StableDiffusion) -> GenerateRequest:
    """The same request with nothing left open, as `base` draws it.

    Raises:
        ConfigError: it names another base, or claims that cannot be read.
        PictureError: the picture that it starts from cannot be read.
    """
    if request.base not in (None, base.name):
        raise ConfigError(
            f'This engine draws with the base "{base.name}", the request names "{request.base}". '
            f'Load that one: Engine(load_base("{request.base}")).'
        )
    request = with_claims_read(request)
    width, height = picture_size(request, base.resolution)
    own_scheduler, own_guidance = name_of(base.pipe.scheduler), base.guidance
    if few_steps := distilled(request):
        own_scheduler = "lcm"
        if request.scheduler in (None, "lcm"):
            own_guidance = 1.0
        if request.scheduler is None and request.steps > 12:
            note(
                f'The adapter "{few_steps}" is made for few steps: the scheduler is lcm, and 4 to 8 '
                f"steps are enough. This request asks for {request.steps}.",
                stacklevel=3,
            )
    return replace(
        request,
        seed=secrets.randbelow(2**32) if request.seed is None else request.seed,
        guidance=own_guidance if request.guidance is None else request.guidance,
        guidance_rescale=base.guidance_rescale
        if request.guidance_rescale is None
        else request.guidance_rescale,
        width=width,
        height=height,
        strength=strength_for(request, base),
        hires_strength=request.hires_strength or (None if request.hires == 1 else HIRES_STRENGTH),
        scheduler=request.scheduler or own_scheduler,
        base=base.name,
        base_hash=_base_hash(base, request.base_hash),
    )


def _base_hash(base: StableDiffusion, earlier: str | None) -> str | None:
    digest = base.file and base.file.hash
    if None not in (earlier, digest) and earlier != digest:
        note(
            f'The base "{base.name}" is the file {digest}, the request was made with {earlier}: the '
            "picture will differ.",
            stacklevel=4,
        )
    return digest
