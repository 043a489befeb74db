"""Images that belong to another file: masks and control images of other trainers, and previews."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

# `a-masklabel.png` is OneTrainer's name for the mask of `a.png`, `a-condlabel.png` for its control image.
_LABEL = re.compile(r"(.+)-(masklabel|condlabel)", re.IGNORECASE)
# Other programs' names are words that an image may be called by as well, so what they show decides, too.
_NAMED = re.compile(r"(.+)[-_.](mask|alpha|matte|depth|canny|openpose|lineart|segmentation)", re.IGNORECASE)
_FOLDERS = frozenset(("mask", "masks", "control", "conditioning", "depth", "canny", "openpose"))
_PREVIEW = re.compile(r"(.+?)(?:\.preview)?", re.IGNORECASE)
_ADAPTER = ".safetensors"
_SIDE = 64  # pixels to which an image is reduced to see whether it has colours


@dataclass(frozen=True)
class Companion:
    """What an image is beside another one.

    Attributes:
        owner: the image or adapter that it belongs to.
        what: "mask", "control image" or "preview".
    """

    owner: Path
    what: str


def find_companions(images: Iterable[Path], files: Iterable[Path]) -> dict[Path, Companion]:
    """The images that are no training images because they belong to another file of the folder.

    Without that other file an image is an ordinary one, whatever it is called: `face mask.png` alone is the
    picture of a face mask.

    Args:
        images: every image in the folder.
        files: every file, for adapters whose previews are among the images.
    """
    images = list(images)
    by_stem = {(image.parent, image.stem.lower()): image for image in reversed(images)}
    adapters = {(file.parent, file.stem.lower()): file for file in files if file.suffix.lower() == _ADAPTER}
    found: dict[Path, Companion] = {}
    for image in images:
        if companion := _companion(image, by_stem, adapters):
            found[image] = companion
    return found


def _companion(
    image: Path, by_stem: dict[tuple[Path, str], Path], adapters: dict[tuple[Path, str], Path]
) -> Companion | None:
    if label := _LABEL.fullmatch(image.stem):
        if owner := by_stem.get((image.parent, label[1].lower())):
            return Companion(owner, "mask" if label[2].lower() == "masklabel" else "control image")
    if named := _NAMED.fullmatch(image.stem):
        owner = by_stem.get((image.parent, named[1].lower()))
        is_mask = named[2].lower() in ("mask", "alpha", "matte")
        if owner and (not is_mask or _is_grey(image)):
            return Companion(owner, "mask" if is_mask else "control image")
    if (folder := image.parent.name.lower()) in _FOLDERS:
        if owner := by_stem.get((image.parent.parent, image.stem.lower())):
            return Companion(owner, "mask" if folder.startswith("mask") else "control image")
    if (preview := _PREVIEW.fullmatch(image.stem)) is not None:
        if owner := adapters.get((image.parent, preview[1].lower())):
            return Companion(owner, "preview")
    return None


def _is_grey(image: Path) -> bool:
    """Masks have no colours. What cannot be read is told of by whoever reads it as an image."""
    try:
        with Image.open(image) as opened:
            if opened.mode in ("1", "L", "LA", "I", "I;16", "F"):
                return True
            small = opened.convert("RGB").resize((_SIDE, _SIDE))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    hue = small.convert("HSV").getchannel("S").getextrema()
    return isinstance(hue[1], (int, float)) and hue[1] <= 8
