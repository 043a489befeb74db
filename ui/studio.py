"""Everything that the Draw tab does, for any number of visitors, without a page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from lorastyle.generate import Engine, GenerateRequest, Picture, save_picture, slug

from .command import command_line
from .drawing import Drawing, View
from .form import Base, Form
from .prompt_names import with_names_found
from .restore import Restored, restore
from .shelf import Card, Refused, Shelf
from .starts import StartPicture
from .visitors import Visitor


class Studio:
    """One engine, one library, many visitors.

    Args:
        engine: draws; one request at a time.
        shelf: the library, for the engine's base.
        out: the folder in which all pictures are kept.
        base_flag: what `--base` says in copied commands; None where none is needed.
    """

    def __init__(self, engine: Engine, shelf: Shelf, *, out: Path, base_flag: str | None = None) -> None:
        base = engine.base
        self.base = Base(base.name, base.resolution, base.guidance, base.guidance_rescale)
        self.shelf = shelf
        self._engine, self._out, self._base_flag = engine, out, base_flag
        self._under_way: set[Drawing] = set()

    def cards(self, visitor: Visitor) -> dict[str, Card]:
        """What this visitor can draw with: own uploads first."""
        return {**visitor.uploads, **self.shelf.look()[0]}

    def take_in(self, visitor: Visitor, file: Path) -> Card | Refused:
        """Look at an uploaded adapter, and keep it for this visitor where it can be used.

        Raises:
            AdapterFileError: not even looked at: another kind of file, or too many.
        """
        return visitor.take_in(file, lambda path, id: self.shelf.judge(path, id, uploaded=True))

    def restore(self, visitor: Visitor, file: Path) -> Restored:
        """The fields that draw a dropped picture again. Raises PictureError."""
        return restore(file, self.cards(visitor), self.base, self.starts(visitor))

    def take_start(self, visitor: Visitor, file: Path) -> StartPicture:
        """Keep a picture to start from, or a mask. Raises PictureError."""
        return visitor.starts.take_in(file)

    def starts(self, visitor: Visitor) -> Mapping[str, StartPicture]:
        """What this visitor can start from, by id."""
        return visitor.starts.look()

    def draw(self, visitor: Visitor, form: Form, *, compare: bool = False) -> Iterator[View]:
        """Draw what stands in the fields, as views of it. Leaving the loop stops it.

        Raises:
            ConfigError: fields that cannot be used; nothing has been started then.
        """
        with visitor.drawing() as stop:
            starts, cards = self.starts(visitor), self.cards(visitor)
            request, told = with_names_found(
                form.request(cards, self.base, starts), cards, self.shelf.look()[1]
            )

            def save(picture: Picture, kept: bool) -> Path:
                return self._save(visitor, picture, kept)

            drawing = Drawing(self._engine, request, save=save, stop=stop, compare=compare)
            self._under_way.add(drawing)
            try:
                for view in drawing:
                    yield replace(view, notes=(*told, *view.notes))
            finally:
                self._under_way.discard(drawing)

    def wait(self) -> None:
        """Until nothing is drawn any more."""
        for drawing in list(self._under_way):
            drawing.join()

    def command(self, visitor: Visitor, request: GenerateRequest) -> str:
        """The command line that draws `request`; uploads and pictures to start from are named
        as if they lay where it is run.
        """
        names = {
            card.path: card.path.name if card.uploaded else card.name for card in self.cards(visitor).values()
        }
        return command_line(request, names, base=self._base_flag)

    def _save(self, visitor: Visitor, picture: Picture, kept: bool) -> Path:
        """Keep it, and give this visitor a copy: the page never points into the folder of everybody's."""
        name = f"{slug(picture.request.prompt)}-{picture.request.seed}"
        private = visitor.folder / "pictures"
        if not kept:
            return save_picture(picture, private / f"{name}-without.png")
        saved = save_picture(picture, self._out / f"{name}.png")
        private.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy2(saved, private / saved.name))
