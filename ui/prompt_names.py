"""Adapters that the prompt names, as `<lora:ink:0.8>`: looked for among the cards, never on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lorastyle.errors import ConfigError, near_miss, shortened
from lorastyle.generate import AdapterUse, GenerateRequest, with_tags_read
from lorastyle.notes import collecting

from .form import with_own_names
from .shelf import SUFFIX, Card, Cards, Refused, find

_MOST_NAMED = 10


def with_names_found(
    request: GenerateRequest, cards: Cards, refused: Sequence[Refused] = ()
) -> tuple[GenerateRequest, list[str]]:
    """The request with the adapters of its prompt's tags behind those of the rows, and the prompt without.

    Args:
        request: of the rows; its adapters know their files.
        cards: what this visitor can draw with.
        refused: what lies in the library, but cannot be used, with the reason.

    Returns:
        The request, and notes: each adapter that came of the prompt, and what of a tag is not used.

    Raises:
        ConfigError: a tag that cannot be read, a name that means no card, a mask that is a picture's path, an
            adapter that is there twice, or nothing left to draw.
    """
    with collecting() as notes:
        read = with_tags_read(replace(request, adapters=()))
    request = replace(request, prompt=read.prompt, negative_prompt=read.negative_prompt)
    if not read.adapters:
        return request, notes
    problems: list[str] = []
    uses: dict[Path | None, AdapterUse] = {use.file: use for use in request.adapters}
    for use in read.adapters:
        if use.region and use.region.picture:
            problems.append(
                f"The adapter {shortened(use.name)} is confined to a picture, {shortened(use.mask)}, and the "
                "page reads none from the disk: write a side or a box, such as mask=left or mask=0,0,0.5,1."
            )
        card, _ = find(cards.values(), use.name.strip().removesuffix(SUFFIX), None)
        if card is None:
            problems.append(_unknown(use.name, cards, refused))
        elif card.path in uses:
            problems.append(
                f"The adapter {card.name} is there twice, and its tag in the prompt is one of them: "
                "take one out, or switch its row off."
            )
        else:
            uses[card.path] = replace(use, name=card.name, file=card.path)
            notes.append(f"From the prompt: the adapter {replace(use, name=card.title)}.")
    if not read.prompt:
        problems.append("Say what to draw: besides the adapters' tags the prompt is empty.")
    if problems:
        raise ConfigError(problems)
    return replace(request, adapters=with_own_names(uses.values())), notes


def tag_of(use: AdapterUse, card: Card) -> str | None:
    """The tag that means `use` of `card` in a prompt, or None where its name cannot be written in one."""
    if use.region and use.region.picture:
        return None
    plain = replace(use, name=card.name, hash=None)
    tag = f"<lora:{plain}>"
    try:
        read = with_tags_read(GenerateRequest(tag)).adapters
    except ConfigError:
        return None
    return tag if read == (plain,) else None


def _unknown(name: str, cards: Cards, refused: Sequence[Refused]) -> str:
    if why := next((bad.why for bad in refused if bad.name == name), None):
        return f"The prompt names the adapter {shortened(name)}, which cannot be used: {why}"
    names = sorted({card.name for card in cards.values()})
    there = f"There is: {', '.join(names[:_MOST_NAMED])}" if names else "There is none yet"
    there += f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return (
        f"The prompt names the adapter {shortened(name)}, which is not here. {there}.{near_miss(name, names)}"
    )
