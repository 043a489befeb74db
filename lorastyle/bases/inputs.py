"""What a UNet reads beside the noisy latents, told from how many channels go in.

Nothing for text to image; for inpainting a mask and the latents of the masked picture, 9 channels in all
(`StableDiffusion.inpaint_concat`). Other models read other things, which no request has words for.
"""

from __future__ import annotations

from lorastyle.errors import BaseError

LATENT_CHANNELS = 4
_SIBLING = "lorastyle draws from words and fills masks: choose its text-to-image or its inpainting sibling"
# (part of the name of its pipeline in diffusers, channels beside the latents, what it is)
_OTHERS = (
    ("InstructPix2Pix", LATENT_CHANNELS, "an editing model (InstructPix2Pix), which follows an instruction"),
    ("Depth2Img", 1, "a depth-to-image model, which follows a map of distances"),
    ("Upscale", 3, "an upscaler, which only makes pictures larger"),
)


def is_inpainting(name: str, channels: int, latent: int = LATENT_CHANNELS) -> bool:
    """Whether a UNet with `channels` input channels for latents of `latent` channels is for inpainting.

    Raises:
        BaseError: it reads something else; `name` is what the user called the base.
    """
    if channels in (latent, 2 * latent + 1):
        return channels != latent
    known = f"{latent} (text to image) and {2 * latent + 1} (inpainting) are known"
    what = next((what for _, beside, what in _OTHERS if channels - latent == beside), None)
    if what is None:
        raise BaseError(
            f'The base "{name}" has a UNet with {channels} input channels, where {known}. {_SIBLING}.'
        )
    raise BaseError(
        f'The base "{name}" is {what}: its UNet has {channels} input channels, where {known}. {_SIBLING}.'
    )


def refuse_other_pipeline(name: str, kind: str) -> None:
    """Is the pipeline `kind`, a class of diffusers, for one of those other models?

    Raises:
        BaseError: it is; what the model does, and the next step.
    """
    for word, _, what in _OTHERS:
        if word in kind:
            raise BaseError(f'The base "{name}" is {what} ({kind}). {_SIBLING}.')
