"""A file that shows what is being drawn, for a viewer that looks again when it changes."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from lorastyle.adapters import atomic_write
from lorastyle.notes import note

from .metadata import PICTURE_FORMATS, check_picture_name


class PreviewFile:
    """What `Engine.generate` takes as `on_preview`: each preview replaces the one before, atomically.

    The pictures of a batch stand side by side. What cannot be written stops no drawing: it is told once.

    Args:
        path: a .png, .jpg or .webp; what is there is replaced. Its folder is made.

    Raises:
        PictureError: another suffix.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        check_picture_name(self.path)
        self._kind = PICTURE_FORMATS[self.path.suffix.lower() or ".png"]
        self._failed = False

    def __call__(self, pictures: list[Image.Image]) -> None:
        """Write them.

        Warns:
            UserWarning: it cannot be written; the first time only.
        """
        if self._failed:
            return
        data = io.BytesIO()
        _side_by_side(pictures).save(data, format=self._kind)
        try:
            atomic_write(self.path, data.getvalue())
        except OSError as error:
            self._failed = True
            note(
                f"The preview {self.path} cannot be written ({error.strerror or error}); drawing goes on.",
                stacklevel=2,
            )


def _side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """One row, for all of a batch have one size."""
    width, height = pictures[0].size
    row = Image.new("RGB", (width * len(pictures), height))
    for place, picture in enumerate(pictures):
        row.paste(picture, (place * width, 0))
    return row
