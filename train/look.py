"""One look at a folder: walks it, opens every picture once, and says what each file is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorastyle.adapters import SHEET
from lorastyle.errors import near_miss
from lorastyle.pictures import SUFFIXES, Unusable, open_picture, why_not_read

from .captions import Caption, repeats_of, words_of
from .companions import Companion, find_companions
from .samples import Dropped, Sample, Side
from .sides import Captions, is_side_file, system_file


@dataclass
class Look:
    """What `run` finds in a folder. The samples have no prompts yet: those depend on all of them."""

    folder: Path
    background: str
    used: list[Sample] = field(default_factory=list[Sample])
    dropped: list[Dropped] = field(default_factory=list[Dropped])
    side: list[Side] = field(default_factory=list[Side])
    notes: list[str] = field(default_factory=list[str])

    def run(self) -> Look:
        files = list(self._walk())
        captions = Captions.among(files)
        images = [path for path in files if path.suffix.lower() in SUFFIXES and not system_file(path.name)]
        companions = find_companions(images, files)
        pictures = {self._name(path): path for path in images if path not in companions}
        owners = {
            side: name for name, path in reversed(pictures.items()) for side in captions.side_files(path)
        }
        seen: dict[str, int] = {}
        for path in files:
            name = self._name(path)
            if (writer := system_file(path.name)) is not None:
                self.side.append(Side(name, f"{writer}, no picture"))
            elif path.name.endswith(SHEET):
                self.side.append(Side(name, "the sheet of a training"))
            elif (companion := companions.get(path)) is not None:
                self.side.append(Side(name, f"{companion.what} of {self._name(companion.owner)}, not used"))
            elif is_side_file(path):
                self._side(path, captions, owners, pictures)
            elif path.suffix.lower() in SUFFIXES:
                self._picture(path, captions, seen)
            else:
                self.dropped.append(Dropped(name, why_not_read(path) or "not a picture"))
        self.notes += [f"{self._name(path)}: {problem}" for path, problem in captions.problems]
        self._note_repeats()
        self._note_masks([companion for companion in companions.values() if companion.what != "preview"])
        return self

    def _picture(self, path: Path, captions: Captions, seen: dict[str, int]) -> None:
        name = self._name(path)
        try:
            opened = open_picture(path, self.background)
        except Unusable as error:
            self.dropped.append(Dropped(name, str(error)))
            return
        size = opened.image.size
        same = hashlib.sha256(repr(size).encode() + opened.image.tobytes()).hexdigest()
        caption = captions.of(path)
        if (place := seen.setdefault(same, len(self.used))) < len(self.used):
            self.dropped.append(Dropped(name, self._again(place, caption)))
            return
        if caption is None:
            words = words_of(path.stem)
            caption = Caption(words, "file name") if words else Caption()
        notes = (*opened.notes, *caption.notes)
        repeats = next(
            (found[0] for part in reversed(Path(name).parts[:-1]) if (found := repeats_of(part))), None
        )
        self.used.append(Sample(name, path, caption, "", "", size, notes, opened.sha256, repeats))

    def _again(self, place: int, caption: Caption | None) -> str:
        """Why a picture that is there already is dropped; words that a person wrote for it are not lost."""
        first = self.used[place]
        if caption is None or not caption.text:
            return f"the same picture as {first.name}"
        if first.caption.source in ("", "file name"):
            self.used[place] = replace(first, caption=caption, notes=(*first.notes, *caption.notes))
            return f"the same picture as {first.name}, which takes over its caption"
        return f"the same picture as {first.name}, which has a caption of its own"

    def _side(
        self, path: Path, captions: Captions, owners: dict[Path, str], pictures: dict[str, Path]
    ) -> None:
        name, owner = self._name(path), owners.get(path)
        if path.suffix.lower() in (".jsonl", ".json"):
            self.side.append(Side(name, "captions of the folder"))
        elif owner is not None:
            first = captions.side_files(pictures[owner])[0]
            what = f"caption of {owner}" if first == path else f"not used: {first.name} comes first"
            self.side.append(Side(name, what))
        else:
            stems = [Path(picture).stem for picture in pictures]
            self.dropped.append(
                Dropped(name, f"a caption without a picture of that name.{near_miss(path.stem, stems)}")
            )

    def _note_masks(self, unused: Sequence[Companion]) -> None:
        for what in dict.fromkeys(companion.what for companion in unused):
            count = sum(companion.what == what for companion in unused)
            self.notes.append(
                f"{count} {what}{'s' * (count != 1)} beside images {'are' if count != 1 else 'is'} not used: "
                "lorastyle trains on whole images"
            )

    def _note_repeats(self) -> None:
        counts: dict[str, int] = {}
        for sample in self.used:
            if sample.repeats is not None:
                parent = Path(sample.name).parent.as_posix()
                counts[parent] = counts.get(parent, 0) + 1
        for parent, count in counts.items():
            self.notes.append(
                f"{parent}/: its number is kohya's count of repeats. Each of its {count} pictures is seen as "
                "often as any other; --steps says how often"
            )

    def _walk(self) -> Iterator[Path]:
        """Files below the folder, sorted. Links to folders are not followed, so there are no loops."""

        def unreadable(error: OSError) -> None:
            where = Path(error.filename)
            name = "./" if where == self.folder else f"{self._name(where)}/"
            self.dropped.append(Dropped(name, f"the folder cannot be read ({error.strerror})"))

        for parent, folders, names in os.walk(self.folder, onerror=unreadable):
            inside: list[str] = []
            for one in sorted(folders):
                path = Path(parent) / one
                if path.is_symlink():
                    reason = "a link to a folder, not followed: put the pictures themselves here"
                    self.dropped.append(Dropped(f"{self._name(path)}/", reason))
                elif one.startswith((".", "__MACOSX")):
                    self.side.append(Side(f"{self._name(path)}/", "a hidden folder, not looked into"))
                elif one.endswith(".run"):
                    self.side.append(Side(f"{self._name(path)}/", "a training run's own folder"))
                else:
                    inside.append(one)
            folders[:] = inside
            yield from (Path(parent) / name for name in sorted(names))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()
