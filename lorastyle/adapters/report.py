"""What became of the modules in a file, said in numbers, names and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .families import family_title


class AdapterWarning(UserWarning):
    """Only a part of an adapter fits the model."""


@dataclass(frozen=True)
class LoadReport:
    """What became of the modules in a file; those the model lacks are spelled as in the file."""

    file: str
    matched: tuple[str, ...]  # "unet down_blocks.0...to_q"
    unmatched: tuple[str, ...] = ()  # the model has no such module
    mismatched: tuple[str, ...] = ()  # it has, with a weight of another shape; both shapes are named
    unsupported: tuple[str, ...] = ()  # not plain LoRA; the algorithm is named
    unknown: tuple[str, ...] = ()  # tensors whose names are in no known format
    words: tuple[str, ...] = ()  # textual inversions in it
    made_for: str | None = None  # the family that its names, metadata or shapes show

    @classmethod
    def of(cls, file: str, reports: Sequence[LoadReport]) -> LoadReport:
        """One report on an adapter of several files."""

        def all_of(field: str) -> tuple[str, ...]:
            return tuple(name for report in reports for name in getattr(report, field))

        fields = ("matched", "unmatched", "mismatched", "unsupported", "unknown", "words")
        family = next((report.made_for for report in reports if report.made_for), None)
        matched, *left = (all_of(field) for field in fields)
        return cls(file, matched, *left, made_for=family)

    @property
    def complete(self) -> bool:
        return not (self.unmatched or self.mismatched or self.unsupported or self.unknown)

    def summary(self) -> str:
        """One sentence, or two: how many modules fit, and which do not."""
        left_out = (*self.unmatched, *self.mismatched, *self.unsupported)
        text = (
            f"{self.file}: {len(self.matched)} of {len(self.matched) + len(left_out)} modules fit this model"
        )
        if left_out:
            text = f"{text}; left out: {_first(left_out)}"
        if (self.unmatched or self.mismatched) and self.made_for:
            text = f"{text}; perhaps because it was made for {family_title(self.made_for)}"
        if self.unknown:
            text = f"{text}; tensors in no known format: {_first(self.unknown)}"
        return text


def _first(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
