"""What a picture starts from: another picture, and a mask of what to draw anew in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError
from torch import Tensor

from lorastyle.bases import StableDiffusion
from lorastyle.errors import PictureError

from .request import SIZES, GenerateRequest
from .sampling import Start

# Only these decoders run, whatever a file claims to be: others start programs (EPS) or read further files.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF")
SOFT_EDGE = 2.0  # pixels, of the mask's edge where the drawn and the kept picture meet


@dataclass(frozen=True, eq=False)
class Canvas:
    """A picture to start from, in the size that is drawn.

    Attributes:
        picture: RGB.
        mask: "L", white where it is drawn anew; None is everywhere.
    """

    picture: Image.Image
    mask: Image.Image | None

    def start(self, base: StableDiffusion, strength: float) -> Start:
        """The same for the sampling loop: latents without noise, and the mask on their grid."""
        pixels = torch.from_numpy(np.array(self.picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
        moments = base.encode_images(pixels)
        latents = base.latents(moments, torch.zeros_like(moments.chunk(2, 1)[0]))
        return Start(latents, strength, None if self.mask is None else self._on_grid(latents))

    def keep_outside(self, drawn: Image.Image) -> Image.Image:
        """`drawn`, but the picture itself outside of the mask, where the autoencoder would change it."""
        if self.mask is None:
            return drawn
        size = drawn.size  # after a hires pass it is larger
        mask = self.mask.resize(size).filter(ImageFilter.GaussianBlur(SOFT_EDGE))
        # The blur only reaches inwards: where nothing is to be drawn, nothing changes.
        inside = np.minimum(np.asarray(mask), np.asarray(self.mask.resize(size)))
        return Image.composite(drawn, self.picture.resize(size), Image.fromarray(inside))

    def _on_grid(self, latents: Tensor) -> Tensor:
        """(1, 1, h, w): a cell is drawn anew where any of its pixels is."""
        values = torch.from_numpy(np.array(self.mask, dtype=np.float32)) / 255
        return torch.nn.functional.adaptive_max_pool2d(values[None, None], tuple(latents.shape[-2:]))


def picture_size(request: GenerateRequest, resolution: int) -> tuple[int, int]:
    """(width, height) to draw: as asked for, else the shape of the picture it starts from with its short side
    at the base's own resolution, else a square of that.

    Raises:
        PictureError: that picture cannot be read.
    """
    shape: tuple[int, int] = (1, 1)
    if request.init is not None and None in (request.width, request.height):
        with _opened(Path(request.init)) as picture:
            shape = ImageOps.exif_transpose(picture).size
    width, height = (
        int(min(max(round(resolution * side / min(shape) / 8) * 8, SIZES[0]), SIZES[1])) for side in shape
    )
    return request.width or width, request.height or height


def load_canvas(request: GenerateRequest) -> Canvas | None:
    """The picture that a complete request starts from, fitted to its size and cropped in the middle.

    Raises:
        PictureError: picture or mask cannot be read; the mask is all black, so nothing would be drawn.
    """
    if request.init is None:
        return None
    size = request.width or 0, request.height or 0
    with _opened(Path(request.init)) as picture:
        fitted = _fit(_on_white(ImageOps.exif_transpose(picture)), size)
    if request.mask is None:
        return Canvas(fitted, None)
    with _opened(Path(request.mask)) as drawn:
        upright = ImageOps.exif_transpose(drawn)
        has_alpha = upright.mode in ("RGBA", "LA") and upright.getchannel("A").getextrema() != (255, 255)
        mask = _fit(upright.getchannel("A") if has_alpha else upright.convert("L"), size)
    if mask.getextrema()[1] == 0:
        raise PictureError(
            f"{request.mask}: the mask is all black. White (or what is not transparent) is "
            "drawn anew: paint that part white."
        )
    return Canvas(fitted, mask)


def _opened(path: Path, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    Image.init()
    try:
        with Image.open(path, formats=[name for name in formats if name in Image.OPEN]) as picture:
            picture.load()
            return picture.copy()
    except FileNotFoundError as error:
        raise PictureError(f"{path}: no such picture.") from error
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{path}: this is no picture. Give a {', '.join(formats[:4])} or similar."
        ) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"{path}: the picture cannot be read ({error}). Save it again.") from error


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        white.alpha_composite(layer)
        return white.convert("RGB")
    return picture.convert("RGB")


def _fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
