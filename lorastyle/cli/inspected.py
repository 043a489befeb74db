"""What was found in an adapter's tensors as lines for people: a table of its blocks, and the remarks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lorastyle.adapters import family_title

from .advice import Advice
from .columns import columns, printable, room
from .console import file_size
from .other_programs import other_programs
from .remarks import Line, counted, flaws, more, sized

if TYPE_CHECKING:
    from lorastyle.adapters import Inspection, Share

_HEADING = ("", "", "modules", "norm", "share", "rank", "effective", "most", "for 99 %", "most")
_LEGEND = (
    ("norm", "how large the update is (Frobenius); share: of the adapter's squared norm"),
    ("effective", "rank that is used, of a median module and at most (exp of the singular values' entropy)"),
    ("for 99 %", "rank that keeps 99 % of a module's squared norm, of a median module and at most"),
)
_ALIASES = ("IN, OUT", "what A1111's LoRA Block Weight calls these blocks; M00 is the middle one")
_STAR = ("*", "attentions and resnets")


def told(found: Inspection, path: Path, *, every: bool, base: str | None = None) -> Iterator[Line]:
    """The whole page of one file.

    Args:
        path, base: as a command that is recommended names them.
        every: name all modules of a remark, and not the first few.
    """
    advice = Advice(path, base)
    yield _title(found), "bold"
    yield "", None
    yield from _table(found)
    yield "", None
    yield from flaws(found, every=every)
    yield "", None
    yield from other_programs(found, every=every, advice=advice)
    yield "", None
    yield from more(found, every=every, advice=advice)


def _title(found: Inspection) -> str:
    info = found.info
    algorithms = ", ".join(dict.fromkeys(look.algorithm for look in found.modules))
    modules = f"{counted(len(found.modules), 'module')} of {algorithms}"
    names = " + ".join(info.formats)
    return printable(
        f"{info.file}: {family_title(info.family)}, {names} names, {modules}, {file_size(info.file_bytes)}"
    )


def _table(found: Inspection) -> Iterator[Line]:
    rows: list[tuple[str, ...]] = []
    styles: list[str | None] = []
    for component in found.components:
        rows.append(_row(component, ""))
        styles.append("bold")
        for block in found.blocks[component.name]:
            rows.append(_row(block, "  "))
            styles.append(None)
    heading, *lines = columns(_HEADING, rows, width=room(), right=_HEADING[2:])
    yield heading, "dim"
    yield from zip(lines, styles, strict=True)
    yield "", None
    legend = [*_LEGEND]
    if any(row[1] for row in rows):
        legend.append(_ALIASES)
    if any("*" in row[0] for row in rows):
        legend.append(_STAR)
    yield from ((f"{word:<10} {meaning}", "dim") for word, meaning in legend)


def _row(share: Share, indent: str) -> tuple[str, ...]:
    return (
        indent + share.name,
        share.alias,
        str(share.modules),
        "" if share.norm is None else sized(share.norm),
        _percent(share.share),
        _number(share.rank, "d"),
        _number(share.effective_rank, ".1f"),
        _number(share.effective_rank_most, ".1f"),
        _number(share.energy_rank, "g"),
        _number(share.energy_rank_most, "d"),
    )


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return "<0.1%" if 0 < share < 5e-4 else f"{share:.1%}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
