"""What is in an adapter file, told from its header alone: at once, and without torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from .contents import FileModule, read_parts
from .families import family_title, tell_family, witnesses
from .formats import COMPONENTS, UNSUPPORTED
from .formats.embedded import parse_word
from .not_ours import no_adapter
from .origin import EXTRACTED_FROM, MERGED_FROM, origin_lines
from .recipe import frequent_tags, recipe_lines

_T = TypeVar("_T")
_NUMBERS = frozenset({"alpha", "scale"})
_HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")
_SURE = {
    "certain": "certain: the weights have its shapes",
    "likely": "likely",
    "unknown": "",
}


@dataclass(frozen=True)
class ComponentInfo:
    """One component's share of an adapter. `bytes` counts tensor data."""

    modules: int
    parameters: int
    bytes: int


@dataclass(frozen=True)
class AdapterInfo:
    """What a file's header tells.

    `family_from` says what tells the family: "metadata", "text width" or "names" (shapes and names cannot be
    misspelt; metadata can), or "nothing". `family_sure` is "certain" where the weights' own shapes show it,
    "likely" where one witness alone does or two disagree, or "unknown". `tags` are those on most of the
    training images; where no trigger is recorded, it is likely among them.
    `alphas` counts the modules' alphas; where a module has no tensor for it, other metadata may give it, and
    otherwise it is the rank. `algorithms` counts modules of other algorithms than plain LoRA, `unsupported`
    those of them that are not read. Hashes are those that the file records.
    """

    file: str
    file_bytes: int
    formats: tuple[str, ...]
    name: str | None
    trigger: str | None
    tags: tuple[str, ...]
    family: str | None
    family_from: str
    family_sure: str
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
    def training(self) -> dict[str, str]:
        """The recipe in words, as far as kohya's keys tell it."""
        return dict(recipe_lines(self.recipe))

    @property
    def parameters(self) -> int:
        return sum(component.parameters for component in self.components.values())

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; counts are keyed by text, as JSON needs."""
        return {
            **asdict(self),
            "training": self.training,
            "parameters": self.parameters,
            "ranks": {str(rank): n for rank, n in self.ranks.items()},
            "alphas": {f"{alpha:g}": n for alpha, n in self.alphas.items()},
        }

    def describe(self) -> str:
        """Some lines that someone who never heard of LoRA can follow."""
        lines = [
            ("file", f"{self.file}, {self.file_bytes / 1e6:.2f} MB, {' + '.join(self.formats)} names"),
            ("made for", self._made_for()),
            ("trigger", self._trigger()),
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
            *(
                (("training", "; ".join(f"{k} {v}" for k, v in self.training.items())),)
                if self.training
                else ()
            ),
            *origin_lines(self.recipe),
            *((key, value) for key, value in self.recipe.items() if _is_plain(key) and value),
            *((key, value) for key, value in self._hashes()),
            *(("note", note) for note in self.notes),
        ]
        return "\n".join(f"{_printable(label) + ':':<17} {_printable(text)}" for label, text in lines)

    def _hashes(self) -> Iterator[tuple[str, str]]:
        """Each once: ModelSpec's is kohya's after `0x`."""
        kohya = self.hashes.get("sshs_model_hash", "")
        for key, value in self.hashes.items():
            if key != "modelspec.hash_sha256" or value.removeprefix("0x") != kohya:
                yield key, value

    def _made_for(self) -> str:
        sure = _SURE[self.family_sure]
        return f"{family_title(self.family)} (from {self.family_from})" + (f", {sure}" if sure else "")

    def _trigger(self) -> str:
        if self.trigger:
            return f'"{self.trigger}": put it into the prompt'
        tags = ", ".join(f'"{tag}"' for tag in self.tags)
        return "none recorded" + (f"; most of its images had {tags}" if tags else "")


def read_info(path: str | os.PathLike[str]) -> AdapterInfo:
    """Describe the adapter file at `path` from its header (and its alphas, of 4 bytes each).

    Raises:
        AdapterFileError: the file is damaged or unsafe (see `read_header`), or holds no adapter.
    """
    path = Path(path)
    parts = read_parts(path)
    sources = [part.source for part in parts]
    modules = [module for part in parts for module in part.modules]
    names = [name for source in sources for name in source.header.tensors]
    if not modules:
        raise no_adapter(path, sources)
    metadata = {key: value for source in sources for key, value in source.header.metadata.items()}
    seen = (
        sources[0].witnesses
        if len(sources) == 1
        else witnesses({n: e.shape for source in sources for n, e in source.header.tensors.items()})
    )
    family, family_from, sure, notes = tell_family(metadata, seen)
    plain = [module for module in modules if not module.algorithm]
    return AdapterInfo(
        file=path.name,
        file_bytes=sum(source.header.file_bytes for source in sources),
        formats=tuple(sorted({module.fmt.name for module in modules})),
        name=metadata.get("ss_output_name") or metadata.get("modelspec.title"),
        trigger=metadata.get("lorastyle.trigger") or metadata.get("modelspec.trigger_phrase"),
        tags=frequent_tags(metadata),
        family=family,
        family_from=family_from,
        family_sure=sure,
        text_width=seen.width,
        ranks=_counted(module.rank for module in plain if module.rank is not None),
        alphas=_counted(_alphas(plain)),
        components={c: _share([m for m in modules if m.component == c]) for c in _present(modules)},
        dtypes=tuple(
            sorted({e.dtype for m in modules for role, e in m.entries.items() if role not in _NUMBERS})
        ),
        algorithms=_counted(module.algorithm for module in modules if module.algorithm),
        unsupported=_counted(module.algorithm for module in modules if module.algorithm in UNSUPPORTED),
        words=tuple(dict.fromkeys(found[0] for name in names if (found := parse_word(name)))),
        recipe={k: v for k, v in sorted(metadata.items()) if k.startswith(("lorastyle.", "ss_"))},
        hashes={k: metadata[k] for k in _HASHES if k in metadata},
        notes=(*notes, *dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _alphas(plain: Sequence[FileModule]) -> list[float]:
    """None where the file says nothing of any."""
    found = [
        alpha
        for module in plain
        if (alpha := module.default_alpha if module.alpha is None else module.alpha) is not None
    ]
    said = any(m.alpha is not None or m.default_alpha != m.rank for m in plain)
    return found if said else []


def _present(modules: Iterable[FileModule]) -> list[str]:
    there = {module.component for module in modules}
    return [component for component in COMPONENTS if component in there]


def _share(modules: list[FileModule]) -> ComponentInfo:
    return ComponentInfo(len(modules), sum(m.parameters for m in modules), sum(m.bytes for m in modules))


def _counted(values: Iterable[_T]) -> dict[_T, int]:
    return dict(Counter(values).most_common())


def _is_plain(key: str) -> bool:
    """Whether it is told as it is, and not in words."""
    return key.startswith("lorastyle.") and key not in (MERGED_FROM, EXTRACTED_FROM)


def _histogram(counts: Mapping[int, int] | Mapping[float, int]) -> str:
    return ", ".join(f"{value:g} ({_modules_of(n)})" for value, n in sorted(counts.items())) or "none"


def _modules_of(number: int) -> str:
    return f"{number} module" if number == 1 else f"{number} modules"


def _printable(text: str) -> str:
    """One line without control characters: metadata comes from strangers and may hold terminal escapes."""
    safe = "".join(c if c.isprintable() else " " for c in text)
    return safe if len(safe) <= 300 else f"{safe[:300]}... ({len(safe):,} characters)"
