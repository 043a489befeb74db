"""Reading an adapter file into an `Adapter` for a given model, and saying what did not fit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from lorastyle.errors import AdapterError, AdapterFileError, BaseMismatchError
from lorastyle.notes import note

from .adapter import Adapter
from .contents import part_of
from .families import cross_attention_width, family_title
from .formats import parse_name
from .formats.embedded import parse_word
from .formats.spelling import spellings
from .formats.stated import states_strength
from .header import Header
from .lowrank import LowRank, is_finite
from .matching import Group, fit, group_tensors, refuse_nan
from .not_ours import family_of, refuse_other_architectures
from .numbers import read_numbers
from .report import AdapterWarning, LoadReport
from .source import Source, open_sources
from .updates import Built, Update

Modules: TypeAlias = Mapping[str, Iterable[str]]
"""{component: its module paths}. An inner iterable that is a mapping has the weights' shapes as values, or
None for a module of unknown size.
"""


def load_adapter(path: str | os.PathLike[str], modules: Modules, *, name: str | None = None) -> Adapter:
    """Read the adapter at `path` for a model whose modules are `modules`.

    Factors of a plain LoRA stay in the file's own type where that is float16, bfloat16 or float32, and lie
    side by side in memory; everything else becomes float32. All on the CPU.

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
        note(f"{report.summary()}.", AdapterWarning, stacklevel=2)
    return adapter


def load_adapter_report(
    path: str | os.PathLike[str], modules: Modules, *, name: str | None = None
) -> tuple[Adapter, LoadReport]:
    """`load_adapter` with the full report instead of a note about what does not fit."""
    path = Path(path)
    sources = open_sources(path)
    parts = [_read(source, modules) for source in sources]
    stating = [source for source in sources if states_strength(source.metadata)]
    for text in dict.fromkeys(text for source in stating for text in part_of(source).notes):
        note(f"{path.name}: {text}.", AdapterWarning, stacklevel=2)
    components: dict[str, dict[str, LowRank]] = {}
    dense: dict[str, dict[str, Update]] = {}
    for component, module, built in (item for part in parts for item in part.built):
        if built.low_rank is not None:
            components.setdefault(component, {})[module] = built.low_rank
        if built.dense is not None:
            dense.setdefault(component, {})[module] = built.dense
    report = LoadReport.of(path.name, [part.report for part in parts])
    if not report.matched:
        raise _nothing_fits(path, report)
    metadata = {k: v for part in parts for k, v in part.source.header.metadata.items()}
    words = {word: vectors for part in parts for word, vectors in part.words.items()}
    return Adapter(name or path.stem, components, metadata, dense, words), report


@dataclass
class _Part:
    """What one of the adapter's files holds for the model."""

    source: Source
    report: LoadReport
    built: list[tuple[str, str, Built]]  # (component, module path, its updates)
    words: dict[str, dict[str, Tensor]]


def _read(source: Source, modules: Modules) -> _Part:
    path, header = source.path, source.header
    refuse_other_architectures(source)
    live = component_of(source, modules)
    groups, unknown = group_tensors(source, spellings(live))
    _refuse_other_text(source, live)
    wanted = [g for g in groups if g.target and not g.unsupported]
    tensors = read_numbers(source, [key for g in wanted for key in g.keys.values()])
    refuse_nan(path, tensors)
    fitting: list[tuple[str, str, Built]] = []
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
            shape = weight_shape(live[component], module)
            built = group.build(path, tensors, source.metadata, shape)
            fitted = fit(built, shape)
            if fitted is None:
                mismatched.append(f"{component} {module} ({_sizes(built, group, header)}, model {shape})")
            else:
                fitting.append((component, module, fitted))
                matched.append(f"{component} {module}")
    report = LoadReport(
        path.name,
        tuple(matched),
        tuple(unmatched),
        tuple(mismatched),
        tuple(unsupported),
        tuple(unknown),
        tuple(words := _words(source)),
        family_of(source),
    )
    return _Part(source, report, fitting, words)


def _words(source: Source) -> dict[str, dict[str, Tensor]]:
    keys = {key: found for key in source.header.tensors if (found := parse_word(key)) is not None}
    tensors = read_numbers(source, keys)
    words: dict[str, dict[str, Tensor]] = {}
    for key, (word, component) in keys.items():
        vectors = tensors[key].float()
        vectors = vectors[None] if vectors.ndim == 1 else vectors
        if vectors.ndim != 2 or not vectors.numel() or not is_finite(vectors):
            raise AdapterFileError.at(
                source.path, f"the word {word!r} in it is no list of vectors of finite numbers."
            )
        words.setdefault(word, {})[component] = vectors
    return words


def _sizes(built: Built, group: Group, header: Header) -> str:
    """What the file has for a module of another size."""
    if built.low_rank is not None:
        return f"file {built.low_rank.shape}"
    shapes = [header.tensors[key].shape for key in group.keys.values() if header.tensors[key].shape]
    return f"file's factors {', '.join(map(str, shapes))}"


def component_of(source: Source, modules: Modules) -> Modules:
    """The components that the file may be for. peft's names do not say which of two text encoders it is:
    there the folder does, or else the size of the first module that both have.
    """
    if source.component is not None:
        return {c: paths for c, paths in modules.items() if c == source.component}
    if "text_encoder_2" not in modules:
        return modules
    known = spellings(modules)
    for key, entry in source.header.tensors.items():
        parsed = parse_name(key)
        if parsed is None or parsed[1].role != "down" or len(known.places(parsed[1].module)) < 2:
            continue
        fitting = {
            c
            for c, path in known.places(parsed[1].module)
            if (shape := weight_shape(modules[c], path)) and shape[1:] == entry.shape[1:]
        }
        if len(fitting) == 1:
            return {c: paths for c, paths in modules.items() if c in fitting}
    return modules


def weight_shape(paths: Iterable[str], module: str) -> tuple[int, ...] | None:
    shape = paths.get(module) if isinstance(paths, Mapping) else None
    return None if shape is None else tuple(shape)


def _downs(header: Header) -> dict[str, tuple[int, ...]]:
    return {
        parsed[1].module: entry.shape
        for key, entry in header.tensors.items()
        if (parsed := parse_name(key)) and parsed[1].role == "down"
    }


def _refuse_other_text(source: Source, modules: Modules) -> None:
    """Cross-attention that reads text of another width is the surest sign of another base."""
    unet = modules.get("unet", ())
    own = cross_attention_width(
        {p: s for p in unet if (s := weight_shape(unet, p)) is not None} if isinstance(unet, Mapping) else {}
    )
    width = cross_attention_width(_downs(source.header))
    if own is not None and width is not None and own != width:
        raise BaseMismatchError.at(
            source.path,
            f"it was made for {family_title(family_of(source))}: its cross-attention reads text of width "
            f"{width}, this base's of {own}. Use it with the base it was made for, or another adapter with "
            "this one.",
        )


def _nothing_fits(path: Path, report: LoadReport) -> AdapterError:
    left = (*report.mismatched, *report.unmatched)
    if not left:
        return AdapterFileError.at(
            path,
            f"nothing in it is of a kind that lorastyle can use; it holds "
            f"{report.unsupported[0].rsplit('(', 1)[-1].rstrip(')')}.",
        )
    if report.mismatched:
        what = f"its weights have other sizes, the first of them {left[0]}"
    else:
        others = f", and none of the other {len(left) - 1}" if left[1:] else ""
        what = f"there is no module called {left[0]}{others}"
    if report.made_for is None:
        step = "The file does not tell which base it was made for. Use it with that base."
    else:
        known = (
            "" if report.mismatched else "; if this is one, the file has names that lorastyle does not know"
        )
        step = f"It seems to be made for {family_title(report.made_for)}. Use it with such a base{known}."
    return BaseMismatchError.at(path, f"none of its modules fits this model: {what}. {step}")
