"""From one form of file to another, with the proof that nothing was lost."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from lorastyle.errors import AdapterError, AdapterFileError

from .adapter import Adapter
from .architectures import family_modules
from .compare import Comparison, compare_adapters
from .contents import read_parts
from .formats import kohya, parse_name
from .formats.naming import not_diffusers, split_prefix
from .info import read_info
from .load import LoadReport, Modules, load_adapter_report
from .not_ours import refuse_other_architectures
from .save import save_adapter
from .source import open_sources

_DTYPES = {"F32": "float32", "F64": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Conversion:
    """What was written, what of the source it holds, and how far apart both are.

    `dtype` is what the numbers in the file are stored as: more than one ("float16 and float32") where what
    was asked for is too coarse for some of them.
    """

    path: Path
    format: str
    dtype: str
    report: LoadReport
    comparison: Comparison


def convert_adapter(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    format: str = "kohya",
    dtype: str | None = None,
    modules: Modules | None = None,
    partial: bool = False,
    private: bool = False,
) -> Conversion:
    """Write the adapter at `source` in another form to `target`, read that again, and compare both.

    Args:
        format, dtype: see `save_adapter`; None keeps the commonest number type of the source.
        modules: of the base, as for `load_adapter`; None asks `known_modules`.
        private: see `save_adapter`.
        partial: write what can be read, where that is not all; otherwise it is an error.

    Raises:
        AdapterError: nothing says which modules the base has; some of the source would be lost; the format
            has no place for an update; or `target` is `source`, or is there already.
        AdapterFileError: a file is damaged, or cannot be written.
    """
    source, target = Path(source), free_target(target)
    modules = modules or known_modules(source)
    adapter, report = load_whole(source, modules, partial=partial)
    dtype = dtype or own_dtype(source)
    named = replace(adapter, name=target.stem)
    if partial and format != "kohya":
        named = replace(named, words={})  # which no other format has a place for
    saved = save_adapter(named, target, dtype=dtype, format=format, private=private)
    again, _ = load_adapter_report(saved, modules)
    return Conversion(saved, format, written_dtypes(saved), report, compare_adapters(adapter, again, modules))


def check_convertible(path: str | os.PathLike[str], modules: Modules) -> None:
    """Would `convert_adapter` write all of the adapter at `path` in kohya's names? Nothing is written.

    Raises:
        AdapterError: it would not, for the reason that it would raise.
        AdapterFileError: the file is damaged.
    """
    kohya.write(load_whole(Path(path), modules, partial=False)[0])


def known_modules(path: str | os.PathLike[str]) -> Modules:
    """The modules that the names in a file may mean, without a base at hand: those of the family that it was
    made for, or, where no family is known, those that its dotted names spell out.

    Raises:
        BaseMismatchError: it was made for an architecture that lorastyle does not draw with.
        AdapterError: neither; flattened names alone do not say where their dots were.
        AdapterFileError: the file is damaged, or holds no adapter.
    """
    family = read_info(path).family
    sources = open_sources(path)
    for source in sources:
        refuse_other_architectures(source)
    if family is not None and (listed := family_modules(family)) is not None:
        return listed
    components: dict[str, dict[str, None]] = {}
    for source in sources:
        for key in source.header.tensors:
            if (parsed := parse_name(key)) is None:
                continue
            component, module = source.component or parsed[1].component, split_prefix(parsed[1].module)[1]
            if (
                parsed[0].name not in ("diffusers", "peft")
                or ".processor." in module
                or not_diffusers(module)
            ):
                made_for = (
                    "does not say which base it was made for" if family is None else f"was made for {family}"
                )
                raise AdapterError(
                    f"{path} {made_for}, and its names say what they mean only beside the base's own. "
                    "Name that base."
                )
            components.setdefault(component, {})[module] = None
    return components


def load_whole(path: Path, modules: Modules, *, partial: bool) -> tuple[Adapter, LoadReport]:
    """`load_adapter_report` where what is not read would be lost.

    Raises:
        AdapterError: that would be some of it, and `partial` does not allow it.
        AdapterFileError: see `load_adapter`.
    """
    adapter, report = load_adapter_report(path, modules)
    if not report.complete and not partial:
        raise AdapterError(
            f"{report.summary()}. Nothing was written; name the base it was made for, or ask for a partial "
            "file of what fits."
        )
    return adapter, report


def free_target(path: str | os.PathLike[str]) -> Path:
    """Where nothing is yet, or an empty folder.

    Raises:
        AdapterFileError: something is.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise AdapterFileError.at(path, "is there already. Give a name that is free, or remove it first.")
    return path


def own_dtype(path: Path) -> str:
    """The commonest number type of a file, by how many numbers are of it, as one that can be written: float16
    where all are stored in 8 bits.
    """
    counted = Counter({_DTYPES[name]: count for name, count in _numbers(path).items() if name in _DTYPES})
    return counted.most_common(1)[0][0] if counted else "float16"


def written_dtypes(path: Path) -> str:
    """The number types that the factors in a file have: "float16", or "float16 and float32", the commonest
    first. Alphas do not count.
    """
    counted = Counter[str]()
    for name, count in _numbers(path).items():
        counted[_DTYPES.get(name, name)] += count
    return " and ".join(dtype for dtype, _ in counted.most_common())


def _numbers(path: Path) -> Counter[str]:
    """How many numbers of an adapter are of each type."""
    counted = Counter[str]()
    for part in read_parts(path):
        for module in part.modules:
            for role, entry in module.entries.items():
                if role not in ("alpha", "scale", "on_input"):
                    counted[entry.dtype] += entry.size
    return counted
