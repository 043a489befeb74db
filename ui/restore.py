"""A dropped picture's settings, back into the fields."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from lorastyle.errors import PictureError, shortened
from lorastyle.generate import AdapterUse, read_request, read_settings

from .form import Base, Form
from .shelf import Card, Cards, find
from .slots import Row


@dataclass(frozen=True)
class Restored:
    """The fields, and a sentence for everything that differs from the picture's own settings."""

    form: Form
    remarks: tuple[str, ...]


def restore(file: Path, cards: Cards, base: Base) -> Restored:
    """The fields that draw the picture in `file` again, with the adapters among `cards`.

    Raises:
        PictureError: no picture, a damaged one, or none with settings in it.
    """
    try:
        request, remarks = read_settings(file, changes={"adapters": ()}, base=base.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `remarks` has said it
            uses = read_request(file).adapters
    except PictureError as error:
        raise PictureError(str(error).replace(str(file), file.name)) from error
    found, missing = _find(uses, cards)
    form, more = Form.of(request, found, base)
    return Restored(form, (*remarks, *missing, *more))


def _find(uses: tuple[AdapterUse, ...], cards: Cards) -> tuple[list[tuple[str, Row]], list[str]]:
    found: dict[str, Row] = {}
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
        before = found[card.id].scale if card.id in found else 0.0
        found[card.id] = Row(True, before + use.scale)
    return list(found.items()), remarks


def _differences(use: AdapterUse, card: Card, same: bool) -> list[str]:
    if not same:
        return [f"The adapter {shortened(use.name)} has other weights here: the picture will differ."]
    if card.name != use.name:
        return [f"The adapter {shortened(use.name)} is called {shortened(card.name)} here."]
    return []
