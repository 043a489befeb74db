"""Reading an adapter file into an `Adapter` for a given model, and saying what did not fit."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from lorastyle.errors import AdapterFileError, BaseMismatchError

from .adapter import Adapter
from .families import (
    cross_attention_width,
    family_from_metadata,
    family_from_names,
    family_from_width,
    family_title,
)
from .files import read_tensors
from .formats import parse_name
from .header import Header, read_header
from .lowrank import LowRank
from .matching import fit, group_tensors, spellings

Modules: TypeAlias = Mapping[str, Iterable[str]]
"""{component: its module paths}. An inner iterable that is a mapping has the weights' shapes as values."""


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
        if self.unknown:
            text = f"{text}; tensors in no known format: {_first(self.unknown)}"
        return text


def _first(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def load_adapter(path: str | os.PathLike[str], modules: Modules, *, name: str | None = None) -> Adapter:
    """Read the adapter at `path` for a model whose modules are `modules`; factors are float32 on the CPU.

    Warns with `AdapterWarning` when only some modules fit; `load_adapter_report` lists them all.

    Args:
        modules: {component: module paths as in `named_modules()`}; or, better, {component: {path: shape of
            the weight}}, which also catches weights of another size.
        name: what to call it; the file's name without its ending when None.

    Raises:
        AdapterFileError: the file is damaged, unsafe, holds NaN, or no adapter in a known format.
        BaseMismatchError: nothing in it fits, or it was made for a base with another text encoder.
    """
    adapter, report = load_adapter_report(path, modules, name=name)
    if not report.complete:
        warnings.warn(f"{report.summary()}.", AdapterWarning, stacklevel=2)
    return adapter


def load_adapter_report(
    path: str | os.PathLike[str], modules: Modules, *, name: str | None = None
) -> tuple[Adapter, LoadReport]:
    """`load_adapter` with the full report instead of a warning."""
    path = Path(path)
    header = read_header(path)
    groups, unknown = group_tensors(path, header, spellings(modules))
    wanted = [g for g in groups if g.target and not g.unsupported]
    tensors = read_tensors(path, header, [key for g in wanted for key in g.keys.values()])
    components: dict[str, dict[str, LowRank]] = {}
    matched: list[str] = []
    unmatched: list[str] = []
    mismatched: list[str] = []
    unsupported: list[str] = []
    for group in groups:
        if group.unsupported:
            unsupported.append(f"{group.spelled} ({group.unsupported})")
        elif group.target is None:
            unmatched.append(group.spelled)
        else:
            component, module = group.target
            update = group.update(path, tensors, header.metadata)
            shape = _weight_shape(modules[component], module)
            fitted = fit(update, shape)
            if fitted is None:
                mismatched.append(f"{component} {module} (file {update.shape}, model {shape})")
            else:
                components.setdefault(component, {})[module] = fitted
                matched.append(f"{component} {module}")
    report = LoadReport(
        path.name, tuple(matched), tuple(unmatched), tuple(mismatched), tuple(unsupported), tuple(unknown)
    )
    _refuse_other_base(path, header, report, modules)
    return Adapter(name or path.stem, components, dict(header.metadata)), report


def _weight_shape(paths: Iterable[str], module: str) -> tuple[int, ...] | None:
    shape = paths.get(module) if isinstance(paths, Mapping) else None
    return None if shape is None else tuple(shape)


def _refuse_other_base(path: Path, header: Header, report: LoadReport, modules: Modules) -> None:
    if not report.matched and not report.mismatched and not report.unmatched:
        raise AdapterFileError(
            f"{path}: nothing in it is plain LoRA, so lorastyle cannot use it yet; it holds "
            f"{report.unsupported[0].rsplit('(', 1)[-1].rstrip(')')}."
        )
    downs = {
        parsed[1].module: entry.shape
        for key, entry in header.tensors.items()
        if (parsed := parse_name(key)) and parsed[1].role == "down"
    }
    width = cross_attention_width(downs)
    made_for = (
        family_from_names(header.tensors) or family_from_metadata(header.metadata) or family_from_width(width)
    )
    unet = modules.get("unet", ())
    own = cross_attention_width(
        {p: s for p in unet if (s := _weight_shape(unet, p)) is not None} if isinstance(unet, Mapping) else {}
    )
    if own is not None and width is not None and own != width:
        raise BaseMismatchError(
            f"{path} was made for {family_title(made_for)}: its cross-attention reads text of width {width}, "
            f"this base's of {own}. Use it with the base it was made for, or another adapter with this one."
        )
    if not report.matched:
        example = (*report.mismatched, *report.unmatched)[0]
        raise BaseMismatchError(
            f"{path}: none of its modules fits this model; the first is {example}. It was probably made for "
            f"{family_title(made_for)}. Use it with the base it was made for."
        )
