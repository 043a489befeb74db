"""A reader's three rules, and the verdict that they give on a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ..contents import FileModule, Part

State = Literal["full", "part", "none", "unknown"]


@dataclass(frozen=True)
class View:
    """A file as readers see it.

    Attributes:
        family: "sd1", "sd2" or "sdxl": the base that it is loaded into.
        modules: all of them, in the file's order.
        keys: all of its tensors, in the file's order.
        others: tensors that belong to no module, such as textual inversions.
        metadata: of the header.
        folder: whether it is a peft folder.
    """

    family: str
    modules: tuple[FileModule, ...]
    keys: tuple[str, ...]
    others: tuple[str, ...]
    metadata: Mapping[str, str]
    folder: bool = False

    @classmethod
    def of(cls, parts: Sequence[Part], family: str) -> View:
        return cls(
            family,
            tuple(module for part in parts for module in part.modules),
            tuple(key for part in parts for key in part.source.header.tensors),
            tuple(key for part in parts for key in part.others),
            {key: value for part in parts for key, value in part.source.header.metadata.items()},
            any("adapter_config.json" in part.source.metadata for part in parts),
        )

    @cached_property
    def by_name(self) -> Mapping[str, FileModule]:
        """The modules by what the file calls them."""
        return {module.spelled: module for module in self.modules}


Rule = Callable[[View, FileModule], str | None]


def never(view: View, module: FileModule | None = None) -> None:
    """A rule that never applies."""


@dataclass(frozen=True)
class Reader:
    """A program that loads adapters.

    Attributes:
        name: as people call it.
        source: where its rules were read.
        refuses: why it loads nothing of a file; None where it tries.
        loses: why it leaves a module out; None where it finds it.
        changes: why it computes another update than the file means, besides a factor; None where it does not.
        factor: by what it scales a module's factors; None where the algorithm has no such number.
        words: why textual inversions that come with a file are lost; None where they are read.
    """

    name: str
    source: str
    loses: Rule
    factor: Callable[[View, FileModule], float | None]
    refuses: Callable[[View], str | None] = never
    changes: Rule = never
    words: str | None = "the words that come with it are not read"


@dataclass(frozen=True)
class Verdict:
    """What a reader makes of a file.

    Attributes:
        state: "full" (all of it, as it is meant), "part", "none", or "unknown".
        modules, read: how many there are, and how many take effect.
        lost: {rule: modules} that have no effect.
        changed: {rule: modules} whose effect is another one.
        strength: the least and the most of what it makes of the strength that the file means; (1.0, 1.0) is
            right, None where no module has a strength to judge.
        rule: why it is refused, or not judged; empty otherwise.
        source: where the rules were read.
    """

    reader: str
    state: State
    modules: int
    read: int
    lost: Mapping[str, int]
    changed: Mapping[str, int]
    strength: tuple[float, float] | None
    rule: str
    source: str

    @property
    def right_strength(self) -> bool:
        """Within what rounding of an alpha in 16 bits does."""
        return self.strength is None or all(abs(factor - 1) < 5e-3 for factor in self.strength)


def verdict_of(reader: Reader, view: View) -> Verdict:
    """The verdict of one reader on one file."""
    count = len(view.modules)
    if (why := reader.refuses(view)) is not None:
        return Verdict(reader.name, "none", count, 0, {}, {}, None, why, reader.source)
    lost, changed = Counter[str](), Counter[str]()
    factors: list[float] = []
    for module in view.modules:
        if (why := reader.loses(view, module)) is not None:
            lost[why] += 1
            continue
        if (why := reader.changes(view, module)) is not None:
            changed[why] += 1
        factor, meant = reader.factor(view, module), module.strength
        if factor is not None and meant:
            factors.append(factor / meant)
        elif factor and meant == 0 and why is None:  # which no factor of the strength could say
            changed["alpha is 0 in the file, and the module acts all the same"] += 1
    read = count - lost.total()
    if reader.words is not None and any(key.startswith("bundle_emb.") for key in view.others):
        changed[reader.words] += 0
    strength = (min(factors), max(factors)) if factors else None
    whole = not lost and not changed
    state: State = "none" if not read else "full" if whole else "part"
    return Verdict(reader.name, state, count, read, dict(lost), dict(changed), strength, "", reader.source)
