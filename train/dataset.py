"""A folder of pictures: every file in it is used, belongs to a picture, or is dropped with its reason."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorastyle.errors import DatasetError, near_miss

from .captions import Caption, article, default_trigger, style_prompt, subject_prompt, without_trigger
from .config import TrainConfig
from .look import Look
from .samples import Dropped, Sample, Side

# What pictures are, not what they show: cat-icon.png and dog-icon.png share a style.
_MEDIA = frozenset(
    """
    icon icons emoji emojis sticker stickers logo drawing drawings painting paintings sketch sketches
    illustration illustrations clipart art artwork doodle style pattern texture cartoon comic print poster
    """.split()
)

__all__ = ["Dataset", "Dropped", "Sample", "Side", "scan"]


@dataclass(frozen=True)
class Dataset:
    """What a folder holds. Each of its files is in `used`, `dropped` or `side`.

    Attributes:
        kind: "style" (captions differ: the trigger names how things look) or "subject" (it names one thing).
        why: how `kind` was decided, in words.
        class_name: what the pictures show; empty when not said.
        notes: what a person should know of the folder as a whole.
    """

    folder: Path
    used: tuple[Sample, ...]
    dropped: tuple[Dropped, ...]
    kind: str
    why: str
    trigger: str
    class_name: str
    side: tuple[Side, ...] = ()
    notes: tuple[str, ...] = ()

    def meaning(
        self, *, trigger: str | None = None, class_name: str | None = None, kind: str | None = None
    ) -> Dataset:
        """The same pictures, with what they are for decided anew; see `scan`. No file is opened."""
        if shared := _shared_noun(self.used) if class_name is None and kind != "style" else "":
            class_name, why = shared, f'every file name ends in "{shared}": they show one {shared}'
            kind, why = kind or "subject", f"{why} (if they share a style, use --kind style)"
        else:
            kind, why = _kind(kind, class_name, self.used)
        trigger, class_name = trigger or default_trigger(self.folder), class_name or ""
        used = tuple(replace(s, **_prompts(s.caption, kind, trigger, class_name)) for s in self.used)
        return replace(self, used=used, kind=kind, why=why, trigger=trigger, class_name=class_name)


def scan(
    folder: str | os.PathLike[str] | TrainConfig,
    *,
    trigger: str | None = None,
    class_name: str | None = None,
    kind: str | None = None,
    background: str = "white",
) -> Dataset:
    """Look at every file below a folder, decoding every picture once.

    Args:
        folder: the folder; or the settings of a run, which then say all the rest.
        trigger: the word that calls the adapter; None takes the folder's name.
        class_name: what the pictures show, when they show one thing; None asks the file names.
        kind: "style" or "subject"; None decides by the captions.
        background: the colour behind transparent pictures.

    Raises:
        DatasetError: there is no such folder, or no picture in it can be used; every reason is listed.
    """
    if isinstance(folder, TrainConfig):
        config = folder
        return scan(
            config.images,
            trigger=config.trigger,
            class_name=config.class_name,
            kind=config.kind,
            background=config.background,
        )
    home = _folder(Path(folder).expanduser())
    look = Look(home, background).run()
    if not look.used:
        raise DatasetError(_nothing(look), [(file.name, file.reason) for file in look.dropped])
    seen = Dataset(
        home, tuple(look.used), tuple(look.dropped), "", "", "", "", tuple(look.side), tuple(look.notes)
    )
    return seen.meaning(trigger=trigger, class_name=class_name, kind=kind)


def _folder(folder: Path) -> Path:
    if os.path.isdir(folder):  # pathlib raises where a folder above may not be searched
        return folder
    if os.path.exists(folder):
        raise DatasetError(
            f'images: "{folder}" is a file. Name the folder it lies in: --images "{folder.parent}"'
        )
    siblings: list[str] = []
    if os.path.isdir(folder.parent) and os.access(folder.parent, os.R_OK):
        siblings = [path.name for path in folder.parent.iterdir() if os.path.isdir(path)]
    raise DatasetError(
        f'images: there is no folder "{folder}".{near_miss(folder.name, siblings)} '
        "Name a folder of pictures: --images ./cat/"
    )


def _nothing(look: Look) -> str:
    reasons = [f"  {file.name}: {file.reason}" for file in look.dropped]
    return "\n".join(
        [
            f'No picture in "{look.folder}" can be used:',
            *(reasons or ["  there is none in it" if look.side else "  the folder is empty"]),
            "Put in at least one PNG, JPEG or WebP picture and start again; five to twenty are best.",
        ]
    )


def _kind(asked: str | None, class_name: str | None, used: Sequence[Sample]) -> tuple[str, str]:
    """(kind, how it was decided). Half of the pictures need words of their own to make a style."""
    captions = {sample.caption.text.lower() for sample in used if sample.caption.text}
    if asked is not None:
        return asked, "as asked for"
    if class_name:
        return "subject", f"a class was named: they all show one {class_name}, the trigger is its name"
    if len(captions) > 1 and 2 * len(captions) >= len(used):
        return "style", (
            f"{len(captions)} different captions: the pictures share how they look, not what they show "
            "(if they show one thing, name it with --class)"
        )
    if len(used) == 1:
        return (
            "subject",
            "there is only one picture: it shows one thing (if its style is meant, use --kind style)",
        )
    said = "have the same caption" if captions else "have no captions"
    if len(captions) > 1:
        said = f"have only {len(captions)} different captions"
    return "subject", f"the pictures {said}: they show one thing (if they share a style, use --kind style)"


def _shared_noun(used: Sequence[Sample]) -> str:
    """`face` of angry-face.png, happy-face.png, sad-face.png: one thing in several moods; else nothing."""
    words = [s.caption.text.lower().split() if s.caption.source == "file name" else [] for s in used]
    last = {of_one[-1] if len(of_one) > 1 else "" for of_one in words}
    return last.pop() if len(last) == 1 and len(used) >= 3 and not last & _MEDIA else ""


def _prompts(caption: Caption, kind: str, trigger: str, class_name: str) -> dict[str, str]:
    if kind == "style":
        text = caption.described
        return {"prompt": style_prompt(text, trigger), "class_prompt": without_trigger(text, trigger)}
    # the file names of one subject's pictures say little: angry-face, cat-3
    text = "" if caption.source == "file name" else caption.text
    return {
        "prompt": subject_prompt(text, trigger, class_name),
        "class_prompt": article(class_name) if class_name else "",
    }
