"""A dropped picture's settings, back into the fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lorastyle.errors import PictureError, shortened
from lorastyle.generate import AdapterUse, GenerateRequest, read_request, read_settings
from lorastyle.notes import collecting

from .form import STRENGTH, Base, Form
from .places import explain
from .prompt_names import tag_of
from .shelf import Card, Cards, find
from .slots import SCALE, Row
from .starts import StartPicture, of_hash


@dataclass(frozen=True)
class Restored:
    """The fields, and a sentence for everything that differs from the picture's own settings."""

    form: Form
    remarks: tuple[str, ...]


def restore(
    file: Path, cards: Cards, base: Base, starts: Mapping[str, StartPicture] | None = None
) -> Restored:
    """The fields that draw the picture in `file` again, with the adapters among `cards` and, where it
    started from a picture, the very file among `starts`.

    Raises:
        PictureError: no picture, a damaged one, or none with settings in it.
    """
    try:
        plain = {"adapters": (), "init": None, "mask": None, "strength": None}
        request, remarks = read_settings(file, changes=plain, base=base.name)
        with collecting():  # `remarks` has said it
            made_with = read_request(file)
    except PictureError as error:
        raise PictureError(explain(error)) from error
    found, tags, missing = _find(made_with.adapters, cards)
    form, more = Form.of(request, found, base)
    form = replace(form, prompt=" ".join([form.prompt, *tags]))
    form, absent = _start(form, made_with, starts or {})
    return Restored(form, (*remarks, *missing, *more, *absent))


def _start(
    form: Form, made_with: GenerateRequest, starts: Mapping[str, StartPicture]
) -> tuple[Form, list[str]]:
    """Names alone mean nothing here: a picture made by a stranger could name any file."""
    if made_with.init is None:
        return form, []
    remarks: list[str] = []
    ids: dict[str, str] = {}
    for key, what in (("init", "It started from the picture"), ("mask", "It was drawn inside of the mask")):
        name, digest = getattr(made_with, key), getattr(made_with, f"{key}_hash")
        if name is None:
            continue
        if start := of_hash(starts, digest):
            ids[key] = start.id
        else:
            recorded = f" ({digest})" if digest else ""
            told = f"{what} {shortened(Path(name).name)}{recorded}, which is missing."
            remarks.append(f'{told} Drop it under "Start from a picture".')
    if "init" not in ids:
        ids.pop("mask", None)
    return replace(
        form, strength=made_with.strength or STRENGTH, init=ids.get("init", ""), mask=ids.get("mask", "")
    ), remarks


def _find(uses: tuple[AdapterUse, ...], cards: Cards) -> tuple[list[tuple[str, Row]], list[str], list[str]]:
    """Rows; tags of the prompt, for what a row has no room for; and remarks."""
    rows: dict[str, Row] = {}
    tags: dict[str, str] = {}
    remarks: list[str] = []
    for use in uses:
        card, same = find(cards.values(), use.name, use.hash)
        weights = f" (weights {use.hash})" if use.hash else ""
        if card is None:
            remarks.append(
                f"The adapter {shortened(use.name)}{weights} is missing. Upload it, and drop again."
            )
            continue
        remarks += _differences(use, card, same)
        before = rows[card.id].scale if card.id in rows else 0.0
        scale = before + use.scale
        plain = not use.options() and abs(scale) <= SCALE[1]
        if plain and card.id not in tags:
            rows[card.id] = Row(True, scale)
        elif card.id not in rows and card.id not in tags and (tag := _tag(use, card, cards)):
            tags[card.id] = tag
            remarks.append(f"What a row has no room for is in the prompt: {tag}.")
        else:
            remarks.append(
                f"The adapter {shortened(use.name)} was drawn with {replace(use, hash=None)}, for which "
                "there is no room here: it is left out."
            )
    return list(rows.items()), list(tags.values()), remarks


def _tag(use: AdapterUse, card: Card, cards: Cards) -> str | None:
    """A tag that means this very card; None where another of its name would be found."""
    return tag_of(use, card) if find(cards.values(), card.name, None)[0] is card else None


def _differences(use: AdapterUse, card: Card, same: bool) -> list[str]:
    if not same:
        return [f"The adapter {shortened(use.name)} has other weights here: the picture will differ."]
    if card.name != use.name:
        return [f"The adapter {shortened(use.name)} is called {shortened(card.name)} here."]
    return []
