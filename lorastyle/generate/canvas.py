"""What a picture starts from: another picture, and a mask of what to draw anew in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch.nn import functional as F

from lorastyle.bases import StableDiffusion

from .named_pictures import read_mask, read_picture, recorded_hash
from .request import SIZES, STRENGTH, GenerateRequest
from .sampling import Start

FEW_STEPS = 10  # of fewer, a share just below 1 would leave out too much: it is a whole step
SOFT_EDGE = 2.0  # pixels, of the mask's edge where the drawn and the kept picture meet


@dataclass(frozen=True, eq=False)
class Canvas:
    """A picture to start from, in the size that is drawn.

    Attributes:
        picture: RGB.
        mask: "L", white where it is drawn anew; None is everywhere.
        init_hash, mask_hash: of their files.
    """

    picture: Image.Image
    mask: Image.Image | None
    init_hash: str
    mask_hash: str | None

    def start(self, base: StableDiffusion, strength: float) -> Start:
        """The same for the sampling loop: latents without noise, and the mask on their grid, or as an
        inpainting base reads it.
        """
        pixels = torch.from_numpy(np.array(self.picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
        moments = base.encode_images(pixels)
        latents = base.latents(moments, torch.zeros_like(moments.chunk(2, 1)[0]))
        if self.mask is None:
            return Start(latents, strength)
        mask = torch.from_numpy(np.array(self.mask, dtype=np.float32))[None, None] / 255
        if base.inpainting:
            return Start(latents, strength, concat=base.inpaint_concat(pixels, mask))
        # a cell is drawn anew where any of its pixels is
        return Start(latents, strength, F.adaptive_max_pool2d(mask, tuple(latents.shape[-2:])))

    def resized(self, size: tuple[int, int]) -> Canvas:
        """The same in another size, (width, height)."""
        mask = None if self.mask is None else self.mask.resize(size)
        return replace(self, picture=self.picture.resize(size), mask=mask)

    def keep_outside(self, drawn: Image.Image) -> Image.Image:
        """`drawn`, but the picture itself outside of the mask, where the autoencoder would change it."""
        own = self.resized(drawn.size)  # after a hires pass it is larger
        if own.mask is None:
            return drawn
        mask = own.mask.filter(ImageFilter.GaussianBlur(SOFT_EDGE))
        # The blur only reaches inwards: where nothing is to be drawn, nothing changes.
        inside = np.minimum(np.asarray(mask), np.asarray(own.mask))
        return Image.composite(drawn, own.picture, Image.fromarray(inside))


def picture_size(request: GenerateRequest, resolution: int) -> tuple[int, int]:
    """(width, height) to draw: as asked for; an open side follows the other in the shape of the picture it
    starts from. With neither, that shape with its short side at the base's own resolution, or a square.

    Raises:
        PictureError: that picture cannot be read.
    """
    if request.width is not None and request.height is not None:
        return request.width, request.height
    if request.init is None:
        return request.width or resolution, request.height or resolution
    shape = read_picture(request.init).image.size
    scale = resolution / min(shape)
    if request.width is not None:
        scale = request.width / shape[0]
    elif request.height is not None:
        scale = request.height / shape[1]
    width, height = (int(min(max(round(scale * side / 8) * 8, SIZES[0]), SIZES[1])) for side in shape)
    return request.width or width, request.height or height


def strength_for(request: GenerateRequest, base: StableDiffusion) -> float | None:
    """How much is drawn anew: as asked for, else the base's own within a mask that it reads itself."""
    if request.init is None or request.strength is not None:
        return request.strength
    if request.mask is None or not base.inpainting:
        return STRENGTH
    return base.inpainting_strength if request.steps >= FEW_STEPS else 1.0


def load_canvas(request: GenerateRequest) -> Canvas | None:
    """The picture that a complete request starts from, fitted to its size and cropped in the middle.

    Raises:
        PictureError: picture or mask cannot be read; the mask is all black, so nothing would be drawn.

    Warns:
        UserWarning: the request recorded another file under that name.
    """
    if request.init is None:
        return None
    size = request.width or 0, request.height or 0
    picture = read_picture(request.init)
    init_hash = recorded_hash(request.init, picture.sha256, request.init_hash)
    fitted = _fit(picture.image, size)
    if request.mask is None:
        return Canvas(fitted, None, init_hash, None)
    mask, digest = read_mask(request.mask)
    mask_hash = recorded_hash(request.mask, digest, request.mask_hash)
    return Canvas(fitted, _fit(mask, size), init_hash, mask_hash)


def _fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
