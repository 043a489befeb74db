"""What other programs make of a file, as lines for people: who reads all of it, and what the others lose."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .columns import printable

if TYPE_CHECKING:
    from lorastyle.adapters import Inspection, Verdict

    from .advice import Advice

Line = tuple[str, str | None]
_WIDTH = 100
_STYLES = {"full": "yellow", "part": "yellow", "none": "red", "unknown": "dim"}
_STRENGTH = "its strength"


def other_programs(found: Inspection, *, every: bool, advice: Advice) -> Iterator[Line]:
    """The reader matrix.

    Args:
        every: say where each rule was read.
        advice: the commands that may be recommended.
    """
    whole = [v.reader for v in found.readers if v.state == "full" and v.right_strength]
    if whole:
        yield from _wrapped(f"Read whole, at {_STRENGTH}, by {', '.join(whole)}.", "green")
    unknown = [v for v in found.readers if v.state == "unknown"]
    if unknown:
        yield from _wrapped(
            f"Other programs ({', '.join(v.reader for v in unknown)}): {unknown[0].rule}.", "dim"
        )
    for verdict in found.readers:
        if verdict.reader not in whole and verdict not in unknown:
            yield from _told(verdict)
    if every:
        yield from ((f"  {v.reader}: by the rules of {v.source}", "dim") for v in found.readers)
    if _mendable(found, whole) and (command := advice.command("convert", "for-all")):
        yield "As kohya's file with one alpha for all modules, every one of these programs finds them:", None
        yield f"  {command}", None


def _told(verdict: Verdict) -> Iterator[Line]:
    causes = [verdict.rule] if verdict.rule else list(verdict.lost)
    if verdict.state == "none" and len(causes) == 1:
        yield from _wrapped(f"{verdict.reader} reads nothing of it: {causes[0]}.", "red")
        return
    read = f"{verdict.read:,} of {verdict.modules:,} modules" if verdict.read else "nothing of it"
    if verdict.read == verdict.modules:
        read = f"all of its {verdict.modules:,} modules" if verdict.modules > 1 else "its only module"
    strength = "" if verdict.strength is None else f", at {_strength(verdict)}"
    yield from _wrapped(f"{verdict.reader} reads {read}{strength}.", _STYLES[verdict.state])
    for reasons, what in ((verdict.lost, "lost"), (verdict.changed, "read otherwise")):
        for why, count in reasons.items():
            yield from _wrapped(f"{f'{count:,} ' if count else ''}{what}: {why}", None, indent="  ")


def _strength(verdict: Verdict) -> str:
    if verdict.right_strength or verdict.strength is None:
        return _STRENGTH
    least, most = (f"{factor:.3g}" for factor in verdict.strength)
    return f"{least} times {_STRENGTH}" if least == most else f"{least} to {most} times {_STRENGTH}"


def _mendable(found: Inspection, whole: list[str]) -> bool:
    """Whether kohya's names, or one alpha, would be of use; both are for LoRA alone."""
    judged = [verdict for verdict in found.readers if verdict.state != "unknown"]
    if not judged or len(whole) == len(judged) or any(look.algorithm != "LoRA" for look in found.modules):
        return False
    return found.info.formats != ("kohya",) or not all(verdict.right_strength for verdict in judged)


def _wrapped(text: str, style: str | None, indent: str = "") -> Iterator[Line]:
    lines = textwrap.wrap(
        printable(text), _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    yield from ((line, style) for line in lines)
