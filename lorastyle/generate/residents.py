"""Which adapters are attached: those in use, and a few that may be wanted again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from lorastyle.adapters import (
    FAMILIES,
    adapter_files,
    content_hash,
    load_adapter,
    model_hash,
    read_info,
)
from lorastyle.bank import AdapterBank
from lorastyle.bases import StableDiffusion
from lorastyle.errors import BaseMismatchError, ConfigError, shortened
from lorastyle.notes import note

from .fields import field_of
from .prompt_plan import is_plain
from .request import GenerateRequest
from .selection import Selection, Selections
from .uses import AdapterUse


@dataclass(frozen=True)
class _File:
    """A file, or a peft folder, as it was when it was read; written anew, it is another one."""

    path: Path
    modified: int
    size: int
    stem: str = field(compare=False)  # as it is called; a link leads to another name

    @classmethod
    def of(cls, path: Path) -> _File:
        statuses = [file.stat() for file, _ in adapter_files(path)]
        newest, size = max(s.st_mtime_ns for s in statuses), sum(s.st_size for s in statuses)
        return cls(path.resolve(), newest, size, path.stem)


@dataclass(frozen=True)
class _Resident:
    name: str  # in the bank
    hash: str
    words: Mapping[str, Mapping[str, Tensor]]
    size: int  # bytes of its file


class Residents:
    """Adapters attached to a bank, each content once whatever its files are called; the least recently used
    are let go first.

    Args:
        keep_bytes: how much all of them may fill, by the sizes of their files, while some are not in use.
    """

    def __init__(self, bank: AdapterBank, base: StableDiffusion, keep_bytes: int) -> None:
        self._bank, self._base, self._keep = bank, base, keep_bytes
        self._contents: dict[_File, str] = {}  # the hashes of all that files hold
        self._attached: dict[str, _Resident] = {}  # by content, in the order of last use
        self._of_use: dict[AdapterUse, str] = {}  # contents, of the last requests' uses with their hashes
        self._held = Counter[str]()  # contents that requests which are not over need
        self._holding = threading.Lock()
        self._by_step: dict[str, AdapterUse] = {}
        self._selection: Selection | None = None
        self._selections = Selections(bank, base)
        self.brought: tuple[str, ...] = ()  # the hashes of those in use that bring words of their own

    def use(self, uses: Sequence[AdapterUse], combine: str | None = None) -> tuple[AdapterUse, ...]:
        """Attach `uses` at their scales and everything else at 0; the same uses with their hashes.

        Nothing changes unless all of them can be used.

        Raises:
            AdapterError: not found, damaged, no module matches, or made for another family.
            ConfigError: two of them are the same file; or as `set`.
        """
        (recorded,) = self.bring([uses])
        self.set(recorded, combine)
        return recorded

    def set(self, uses: Sequence[AdapterUse], combine: str | None = None) -> None:
        """Uses of the last `bring` at their scales and everything else at 0.

        Args:
            combine: of the request; for "k-lora" a selection is made.

        Raises:
            ConfigError, AdapterError: see `Selections.between`. Nothing changes then.
        """
        named = {use: (name, self._of_use[use]) for use, name in self._named(uses)}
        selection = self._selections.between(uses, named) if combine == "k-lora" else None
        chosen = {name: use for use, (name, _) in named.items()}
        weights = {name: use.weights(self._base.family) for name, use in chosen.items()}
        self._bank.set_scales(self.scales(uses))
        self._bank.set_block_weights({**dict.fromkeys(self._bank.block_weights), **weights})
        self._selection = selection
        self._by_step = {name: use for name, use in chosen.items() if use.by_step}
        in_use = [self._attached[self._of_use[use]] for use in uses if use.is_used]
        self._base.set_words({word: v for resident in in_use for word, v in resident.words.items()})
        self.brought = tuple(resident.hash for resident in in_use if resident.words)

    def bring(self, requests: Sequence[Sequence[AdapterUse]]) -> list[tuple[AdapterUse, ...]]:
        """Attach the adapters of several requests, at the scales they have, or 0; their uses with hashes.

        Raises:
            AdapterError, ConfigError: as `use`.
        """
        files = {use: _File.of(use.find()) for uses in requests for use in uses}
        for file in files.values():
            if file not in self._contents:
                refuse_other_family(file.path, self._base.family, self._base.name)
        contents = {use: self._content(file) for use, file in files.items()}
        for uses in requests:
            self._refuse_twins({use: contents[use] for use in uses})
        for use, content in contents.items():
            self._attached[content] = self._attached.pop(content, None) or self._attach(files[use])
        self._let_go(set(contents.values()))
        recorded = {use: self._recorded(use, self._attached[c].hash) for use, c in contents.items()}
        self._of_use = {recorded[use]: content for use, content in contents.items()}
        return [tuple(recorded[use] for use in uses) for uses in requests]

    @property
    def device(self) -> torch.device:
        """Where the base computes."""
        return self._base.device

    @contextmanager
    def bringing(
        self, requests: Sequence[GenerateRequest]
    ) -> Generator[tuple[list[GenerateRequest], Mapping[AdapterUse, str]]]:
        """`bring` the adapters of requests, which stay attached for the length of a `with` block.

        Yields:
            The requests with the hashes of their adapters, and what `resume` takes.

        Raises:
            AdapterError, ConfigError: as `use`.
        """
        brought = self.bring([request.adapters for request in requests])
        held = self._of_use
        with self._holding:
            self._held.update(held.values())
        try:
            yield [replace(r, adapters=uses) for r, uses in zip(requests, brought, strict=True)], held
        finally:
            with self._holding:
                self._held.subtract(held.values())

    def resume(self, held: Mapping[AdapterUse, str]) -> None:
        """As after the `bringing` that yielded this, whatever was brought since."""
        self._of_use = dict(held)

    def scales(self, uses: Sequence[AdapterUse]) -> dict[str, float | dict[str, float]]:
        """The scales of all that is attached, for these uses of the last `bring`: 0 for the others."""
        scales: dict[str, float | dict[str, float]] = {r.name: 0.0 for r in self._attached.values()}
        for use, name in self._named(uses):
            scales[name] = {component: use.scale_on(component) for component in self._base.components}
        return scales

    def confined(
        self, uses: Sequence[AdapterUse], size: tuple[int, int]
    ) -> tuple[tuple[AdapterUse, ...], dict[str, Tensor]]:
        """The same uses of the last `bring`, with the hashes of their masks; and {adapter: its field}, for
        those that act in a part of the picture only.

        Args:
            size: (height, width) of the picture.

        Raises:
            PictureError: a mask cannot be read, is empty, or has another shape than the picture.
        """
        fields: dict[str, Tensor] = {}
        recorded: list[AdapterUse] = []
        for use, name in self._named(uses):
            if use.mask is not None:
                use, field = field_of(use, size)
                if use.is_used:
                    fields[name] = field
            recorded.append(use)
        return tuple(recorded), fields

    def claimed(self, request: GenerateRequest) -> dict[str, Tensor]:
        """{adapter: which of the prompt's tokens claim it, (tokens,)}, for those in use of the last `bring`.

        Raises:
            ConfigError: the words of one are not in the prompt, or the prompt is not the same at every step.
        """
        claims: dict[str, Tensor] = {}
        for use, name in self._named(request.adapters):
            if use.words is not None and use.is_used:
                if not is_plain(request.prompt):
                    raise ConfigError(
                        f'The adapter "{use.name}" is bound to the words "{use.words}", which works with one '
                        "prompt for all steps only. Take AND, [from:to:when] and [a|b] out of the prompt, or "
                        "confine the adapter with mask= instead."
                    )
                claims[name] = self._base.places(request.prompt, use.words)
                if not claims[name].any():
                    raise ConfigError(
                        f'The words "{use.words}" of the adapter "{use.name}" are not in the prompt '
                        f"{shortened(request.prompt)}. Name some that follow one another in it."
                    )
        return claims

    def low_rank(self, uses: Sequence[AdapterUse]) -> bool:
        """Whether all of these are low rank, so that each sample can have a scale of its own."""
        return all(not self._bank.export(name).dense for _, name in self._named(uses))

    def alone(self, uses: Sequence[AdapterUse]) -> dict[str, dict[str, float | dict[str, float]]]:
        """{adapter: the scales of all that is attached, with it alone on}, for those that are used; nothing
        where there are fewer than two of them.

        Raises:
            ConfigError: one is not low rank, and cannot have a scale of its own for each sample.
        """
        every = self.scales(uses)
        used = {name: use for use, name in self._named(uses) if use.is_used}
        if len(used) < 2:
            return {}
        for name, use in used.items():
            if self._bank.export(name).dense:
                raise ConfigError(
                    f'The adapter "{use.name}" is not low rank: it changes weights, which all answers share, '
                    "and cannot be asked alone. Leave out combine, or resize it to a low rank first."
                )
        return {name: {**dict.fromkeys(every, 0.0), name: every[name]} for name in used}

    def _named(self, uses: Sequence[AdapterUse]) -> list[tuple[AdapterUse, str]]:
        return [(use, self._attached[self._of_use[use]].name) for use in uses]

    @contextmanager
    def stepping(self) -> Generator[Callable[[int, int], None]]:
        """What sets the scales for a step, told its number from 0 and how many there are; for the length of a
        `with` block, after which they are as without steps.
        """

        def step(number: int, steps: int) -> None:
            if self._by_step or self._selection:
                factors = {name: use.factor(number, steps) for name, use in self._by_step.items()}
                self._bank.set_step_factors(factors, self._choices(factors, number, steps))

        try:
            yield step
        finally:
            if self._by_step or self._selection:
                self._bank.set_step_factors({})

    def _choices(
        self, factors: Mapping[str, float], number: int, steps: int
    ) -> dict[str, dict[tuple[str, str], float]]:
        """What is chosen between those that act at this step."""
        if self._selection is None or 0.0 in factors.values():
            return {}
        return self._selection.at(number, steps)

    def _attach(self, file: _File) -> _Resident:
        taken = set(self._bank.names)
        names = (file.stem if i == 1 else f"{file.stem}-{i}" for i in range(1, len(taken) + 2))
        name = next(name for name in names if name not in taken)
        adapter = load_adapter(file.path, self._base.module_shapes(), name=name)
        self._base.check_words(adapter.words)
        self._bank.add(adapter, scale=0.0)
        return _Resident(name, model_hash(file.path)[:12], adapter.words, file.size)

    def _content(self, file: _File) -> str:
        if file not in self._contents:
            self._contents[file] = content_hash(file.path)
        return self._contents[file]

    def _let_go(self, in_use: set[str]) -> None:
        filled = sum(resident.size for resident in self._attached.values())
        with self._holding:
            in_use = in_use | {content for content, count in self._held.items() if count > 0}
        for content in [content for content in self._attached if content not in in_use]:
            if filled <= self._keep:
                break
            gone = self._attached.pop(content)
            self._bank.remove(gone.name)
            filled -= gone.size

    @staticmethod
    def _refuse_twins(contents: dict[AdapterUse, str]) -> None:
        names: dict[str, str] = {}
        for use, content in contents.items():
            if content in names:
                raise ConfigError(
                    f'adapters: "{names[content]}" and "{use.name}" are the same file, or one a copy of the '
                    "other. Name it once, with the sum of the scales."
                )
            names[content] = use.name

    @staticmethod
    def _recorded(use: AdapterUse, digest: str) -> AdapterUse:
        if use.hash is not None and use.hash != digest:
            note(
                f'The adapter "{use.name}" has the weights {digest}, the request was made with {use.hash}: '
                "the picture will differ.",
                stacklevel=4,
            )
        return replace(use, hash=digest)


def refuse_other_family(adapter: Path, family: str, base: str) -> None:
    """Does an adapter fit a base of this family? By the file's header alone.

    Raises:
        BaseMismatchError: it says, or its shapes show, that it was made for another.
        AdapterFileError: the file is damaged.
    """
    if why := other_family(adapter.name, read_info(adapter).family, family, base):
        raise BaseMismatchError(why)


def other_family(adapter: str, made_for: str | None, family: str, base: str) -> str | None:
    """Why an adapter made for one family does not fit a base of another; None where it may."""
    if made_for is None or made_for == family:
        return None
    if made_for in FAMILIES and not FAMILIES[made_for].drawn:
        return (
            f'The adapter "{adapter}" was made for {_title(made_for)}, which lorastyle does not draw with: '
            "only with Stable Diffusion 1, 2 and XL. Use it in ComfyUI, or with diffusers."
        )
    return (
        f'The adapter "{adapter}" was made for {_title(made_for)}; the base "{base}" is '
        f"{_title(family)}. Use it with a base of its own family."
    )


def _title(family: str) -> str:
    return FAMILIES[family].title if family in FAMILIES else f'"{family}"'
