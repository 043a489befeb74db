"""What is in an adapter file, told from its header alone: at once, and without torch."""

from __future__ import annotations

import math
import os
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from lorastyle.errors import AdapterFileError

from .families import (
    FAMILIES,
    cross_attention_width,
    family_from_metadata,
    family_from_names,
    family_from_width,
    family_title,
)
from .formats import COMPONENTS, UNSUPPORTED, parse_name
from .formats.embedded import parse_word
from .header import TensorEntry
from .source import Source, open_sources

_T = TypeVar("_T")


@dataclass(frozen=True)
class ComponentInfo:
    """One component's share of an adapter. `bytes` counts tensor data."""

    modules: int
    parameters: int
    bytes: int


@dataclass(frozen=True)
class AdapterInfo:
    """What a file's header tells.

    `family_from` says how sure the family is: "metadata", "text width" or "names" (shapes and names cannot be
    misspelt; metadata can), or "nothing". `alphas` counts the modules' alphas; where a module has no tensor
    for it, other metadata may give it, and otherwise it is the rank. `algorithms` counts modules of other
    algorithms than plain LoRA, `unsupported` those of them that are not read. Hashes are those that
    the file records.
    """

    file: str
    file_bytes: int
    formats: tuple[str, ...]
    name: str | None
    trigger: str | None
    family: str | None
    family_from: str
    text_width: int | None
    ranks: Mapping[int, int]  # rank: modules
    alphas: Mapping[float, int]  # alpha: modules
    components: Mapping[str, ComponentInfo]
    dtypes: tuple[str, ...]
    algorithms: Mapping[str, int]
    unsupported: Mapping[str, int]
    words: tuple[str, ...]  # textual inversions in it
    recipe: Mapping[str, str]  # lorastyle.* and ss_* metadata
    hashes: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def parameters(self) -> int:
        return sum(component.parameters for component in self.components.values())

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; counts are keyed by text, as JSON needs."""
        return {
            **asdict(self),
            "parameters": self.parameters,
            "ranks": {str(rank): n for rank, n in self.ranks.items()},
            "alphas": {f"{alpha:g}": n for alpha, n in self.alphas.items()},
        }

    def describe(self) -> str:
        """Some lines that someone who never heard of LoRA can follow."""
        lines = [
            ("file", f"{self.file}, {self.file_bytes / 1e6:.2f} MB, {' + '.join(self.formats)} names"),
            ("made for", f"{family_title(self.family)} (from {self.family_from})"),
            ("trigger", f'"{self.trigger}": put it into the prompt' if self.trigger else "none recorded"),
            ("rank", _histogram(self.ranks)),
            ("alpha", _histogram(self.alphas) if self.alphas else "none recorded, so each equals its rank"),
            *(
                (
                    component,
                    f"{_modules_of(part.modules)}, {part.parameters:,} parameters, {part.bytes / 1e6:.2f} MB",
                )
                for component, part in self.components.items()
            ),
            ("stored as", ", ".join(self.dtypes)),
            *((("words in it", ", ".join(self.words)),) if self.words else ()),
            *(("algorithm", f"{what} in {_modules_of(n)}") for what, n in self.algorithms.items()),
            *(("not read", f"{_modules_of(n)} of {what}") for what, n in self.unsupported.items()),
            *((key, value) for key, value in self.recipe.items() if key.startswith("lorastyle.")),
            *((key, value) for key, value in self.hashes.items()),
            *(("note", note) for note in self.notes),
        ]
        return "\n".join(f"{_printable(label) + ':':<17} {_printable(text)}" for label, text in lines)


def read_info(path: str | os.PathLike[str]) -> AdapterInfo:
    """Describe the adapter file at `path` from its header (and its alphas, of 4 bytes each).

    Raises:
        AdapterFileError: the file is damaged or unsafe (see `read_header`), or holds no adapter.
    """
    path = Path(path)
    sources = open_sources(path)
    modules: dict[str, _Module] = {}
    alphas: list[float] = []
    for source in sources:
        own = _modules(source)
        alphas += _alphas(source, own)
        modules |= {f"{source.component or ''}:{name}": module for name, module in own.items()}
    names = [name for source in sources for name in source.header.tensors]
    if not modules:
        shown = ", ".join(repr(name) for name in names[:3]) or "no tensor"
        raise AdapterFileError(f"{path}: no adapter in a format that lorastyle knows; it holds {shown}.")
    metadata = {key: value for source in sources for key, value in source.header.metadata.items()}
    width = cross_attention_width(
        {
            name: m.roles["down"].shape
            for name, m in modules.items()
            if m.component == "unet" and "down" in m.roles
        }
    )
    family, family_from, notes = tell_family(metadata, names, width)
    plain = [m for m in modules.values() if not m.algorithm]
    return AdapterInfo(
        file=path.name,
        file_bytes=sum(source.header.file_bytes for source in sources),
        formats=tuple(sorted({m.format for m in modules.values()})),
        name=metadata.get("ss_output_name") or metadata.get("modelspec.title"),
        trigger=metadata.get("lorastyle.trigger") or metadata.get("modelspec.trigger_phrase"),
        family=family,
        family_from=family_from,
        text_width=width,
        ranks=_counted(
            m.roles["down"].shape[0] for m in plain if m.roles.get("down") and m.roles["down"].shape
        ),
        alphas=_counted(alphas),
        components={c: _share([m for m in modules.values() if m.component == c]) for c in _present(modules)},
        dtypes=tuple(
            sorted({e.dtype for m in modules.values() for role, e in m.roles.items() if role != "alpha"})
        ),
        algorithms=_counted(m.algorithm for m in modules.values() if m.algorithm),
        unsupported=_counted(m.algorithm for m in modules.values() if m.algorithm in UNSUPPORTED),
        words=tuple(dict.fromkeys(found[0] for name in names if (found := parse_word(name)))),
        recipe={k: v for k, v in sorted(metadata.items()) if k.startswith(("lorastyle.", "ss_"))},
        hashes={k: metadata[k] for k in ("sshs_model_hash", "sshs_legacy_hash") if k in metadata},
        notes=notes,
    )


@dataclass
class _Module:
    component: str
    format: str
    default_alpha: Callable[[str, str, int, Mapping[str, str]], float]
    algorithm: str
    roles: dict[str, TensorEntry]
    parameters: int = 0
    bytes: int = 0


def _modules(source: Source) -> dict[str, _Module]:
    found: dict[str, _Module] = {}
    for key, entry in source.header.tensors.items():
        if (parsed := parse_name(key)) is None:
            continue
        fmt, name = parsed
        component = source.component or name.component
        module = found.setdefault(name.module, _Module(component, fmt.name, fmt.default_alpha, "", {}))
        module.algorithm = name.algorithm or module.algorithm
        module.roles[name.role] = entry
        module.parameters += 0 if name.role == "alpha" else entry.size
        module.bytes += entry.stop - entry.start
    return found


def _present(modules: Mapping[str, _Module]) -> list[str]:
    there = {module.component for module in modules.values()}
    return [component for component in COMPONENTS if component in there]


def _share(modules: list[_Module]) -> ComponentInfo:
    return ComponentInfo(len(modules), sum(m.parameters for m in modules), sum(m.bytes for m in modules))


def tell_family(
    metadata: Mapping[str, str], names: Collection[str], width: int | None
) -> tuple[str | None, str, tuple[str, ...]]:
    """The family, what says so, and a note on disagreement. Shapes and names outweigh metadata."""
    said = family_from_metadata(metadata)
    by_names, by_width = family_from_names(names), family_from_width(width)
    seen, source = (by_names, "names") if by_names else (by_width, "text width")
    if said is None:
        if seen:
            return seen, source, ()
        why = f"; its cross-attention reads text of width {width}" if width else ""
        return None, "nothing", (f"the file does not tell which base it was made for{why}",)
    # Families of our own (and bases nobody listed) may have any width, so only listed ones can disagree.
    if seen and seen != said and (by_names or _listed_width(said) is not None):
        return seen, source, (f"the metadata says {said}, but the weights are those of {family_title(seen)}",)
    return said, "metadata", ()


def _listed_width(family: str) -> int | None:
    return FAMILIES[family].text_width if family in FAMILIES else None


def _alphas(source: Source, modules: Mapping[str, _Module]) -> list[float]:
    """Alphas of the plain modules; none where the file says nothing of any."""
    path, header, metadata = source.path, source.header, source.metadata
    found: list[float] = []
    said = False
    try:
        with path.open("rb") as file:
            for spelled, module in modules.items():
                entry, down = module.roles.get("alpha"), module.roles.get("down")
                if module.algorithm:
                    continue
                if entry is not None and entry.size == 1:
                    file.seek(header.data_start + entry.start)
                    found.append(_scalar(entry.dtype, file.read(entry.stop - entry.start)))
                    said = True
                elif down is not None and down.shape:
                    rank, inside = down.shape[0], spelled.removeprefix(f"{module.component}.")
                    inside = inside.removeprefix("base_model.model.")
                    try:
                        alpha = module.default_alpha(module.component, inside, rank, metadata)
                    except AdapterFileError as error:
                        raise AdapterFileError(f"{path}: {error}") from error
                    found.append(alpha)
                    said = said or found[-1] != rank
    except OSError as error:
        raise AdapterFileError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except OverflowError as error:
        raise AdapterFileError(f"{path}: an alpha in its metadata is no number ({error}).") from error
    return found if said else []


_STRUCT = {
    "F64": "<d",
    "F32": "<f",
    "F16": "<e",
    "I64": "<q",
    "I32": "<i",
    "I16": "<h",
    "I8": "<b",
    "U8": "<B",
}


def _scalar(dtype: str, data: bytes) -> float:
    if dtype == "BF16":  # the upper half of a float32
        return float(struct.unpack("<f", b"\0\0" + data)[0])
    return float(struct.unpack(_STRUCT[dtype], data)[0]) if dtype in _STRUCT else math.nan


def _counted(values: Iterable[_T]) -> dict[_T, int]:
    return dict(Counter(values).most_common())


def _histogram(counts: Mapping[int, int] | Mapping[float, int]) -> str:
    return ", ".join(f"{value:g} ({_modules_of(n)})" for value, n in sorted(counts.items())) or "none"


def _modules_of(number: int) -> str:
    return f"{number} module" if number == 1 else f"{number} modules"


def _printable(text: str) -> str:
    """One line without control characters: metadata comes from strangers and may hold terminal escapes."""
    safe = "".join(c if c.isprintable() else " " for c in text)
    return safe if len(safe) <= 300 else f"{safe[:300]}... ({len(safe):,} characters)"
