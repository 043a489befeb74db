"""What is to be said of an adapter's tensors: what is wrong with them, and what is good to know."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lorastyle.adapters import family_title

from .columns import printable

if TYPE_CHECKING:
    from lorastyle.adapters import BadTensor, InspectedWord, Inspection

    from .advice import Advice

Line = tuple[str, str | None]
"""A text and its style."""

_WIDTH = 100
_SHOWN = 5
_WORTH = 0.8  # a smaller file is told of where it has at most so much of the numbers


def flaws(found: Inspection, *, every: bool) -> Iterator[Line]:
    """What is wrong, the worst first; or that nothing is."""
    lines = [
        *_listed(
            f"Tensors with NaN or infinity in them: {len(found.not_finite)}. They turn every picture black, "
            "and few programs say so. Use an earlier checkpoint, or train again with a lower learning rate.",
            [_bad(tensor) for tensor in found.not_finite],
            every,
            "red",
        ),
        *_listed(
            f"Modules whose tensors make no update: {len(found.broken)}",
            [f"{name}: {why}" for name, why in found.broken.items()],
            every,
            "red",
        ),
        *_dead(found, every),
        *_listed(
            f"Modules whose update sticks out from those of its component: {len(found.loud)}",
            [f"{name}: {times:.1f} times the median" for name, times in found.loud.items()],
            every,
            "yellow",
        ),
        *_listed(
            f"Modules that {family_title(found.info.family)} has not, or has in another size: "
            f"{len(found.misfits)} of {len(found.modules)}",
            found.misfits,
            every,
            "yellow",
        ),
        *_listed(
            f"Tensors in no known format, which may be lost: {len(found.unknown)}",
            found.unknown,
            every,
            "yellow",
        ),
    ]
    if not lines:
        lines = [("Nothing wrong: no NaN, no module that changes nothing, none that sticks out.", "green")]
    yield from lines


def more(found: Inspection, *, every: bool, advice: Advice) -> Iterator[Line]:
    """What the table does not show, and what can be done."""
    for algorithm, count in found.unmeasured.items():
        text = f"How large {algorithm} is depends on the base's weights: {counted(count, 'module')}"
        yield text + ("" if found.on_base else ". Name one with --base."), None
    if not found.on_base and any(look.algorithm.startswith("DoRA") for look in found.modules):
        yield "DoRA is measured without its magnitudes, whose effect depends on the base's weights.", None
        yield "Name one with --base.", None
    if found.biases:
        yield f"Modules whose bias changes too, which no share counts: {len(found.biases)}", None
    yield from _listed("Words that come with it:", [_word(word) for word in found.words], every, None)
    smaller = _smaller(found)
    if smaller is not None and (command := advice.command("resize", "smaller", "--energy 0.99")):
        yield f"99 % of every module fits into {smaller:.0%} of the numbers:", None
        yield f"  {command}", None


def counted(number: int, what: str) -> str:
    """`1 module`, `1,200 modules`."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def sized(value: float) -> str:
    """With three digits, so that what is tiny is not told as nothing."""
    if value == 0:
        return "0"
    return f"{value:#.3g}".rstrip(".") if 1e-3 <= value < 1e3 else f"{value:.3g}"


def _dead(found: Inspection, every: bool) -> Iterator[Line]:
    if found.dead and len(found.dead) == len(found.modules):
        causes = "; ".join(dict.fromkeys(found.dead.values()))
        yield f"No module changes anything, so neither does this adapter: {causes}", "red"
        return
    yield from _listed(
        f"Modules that change nothing: {len(found.dead)} of {len(found.modules)}",
        [f"{name}: {why}" for name, why in found.dead.items()],
        every,
        "yellow",
    )


def _listed(heading: str, items: Sequence[str], every: bool, style: str | None) -> Iterator[Line]:
    """Nothing where there are no items."""
    if not items:
        return
    for line in textwrap.wrap(heading, _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield line, style
    for item in items if every else items[:_SHOWN]:
        yield f"  {printable(item)}", None
    if not every and len(items) > _SHOWN:
        yield f"  and {len(items) - _SHOWN} more, which --all names", None


def _bad(tensor: BadTensor) -> str:
    parts = [f"{n:,} {what}" for n, what in ((tensor.nan, "NaN"), (tensor.infinite, "infinite")) if n]
    return f"{tensor.key}: {', '.join(parts)} of {counted(tensor.numbers, 'number')}"


def _word(word: InspectedWord) -> str:
    vectors = f"{counted(word.vectors, 'vector')} of width {word.width}"
    return f"{word.word}: {vectors} for {word.component}, of a mean length of {sized(word.length)}"


def _smaller(found: Inspection) -> float | None:
    """What share of the numbers keeps 99 % of each module; None where that is not worth a new file."""
    before = after = 0.0
    for look in found.modules:
        if look.algorithm != "LoRA" or look.measure is None or look.measure.rank is None:
            return None
        before += look.parameters
        after += look.parameters * (look.measure.energy_rank or 1) / look.measure.rank
    return after / before if before and after <= _WORTH * before else None
