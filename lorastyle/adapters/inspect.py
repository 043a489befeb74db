"""What is in an adapter's tensors: how strong it is where, how much of its rank it uses, and what is broken.

Every file that has an adapter in it can be looked into, the ones that loading refuses too. No base is needed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from .architectures import family_modules
from .formats.embedded import parse_word
from .formats.spelling import spellings
from .health import BadTensor, bad_tensors
from .info import AdapterInfo, read_info
from .load import Modules, component_of
from .look import Look, Weights, look_at
from .matching import group_tensors
from .numbers import read_numbers
from .readers import Verdict, judge_readers
from .shares import Share, by_block, by_component
from .source import Source, open_sources
from .standing import sticking_out


@dataclass(frozen=True)
class InspectedWord:
    """A textual inversion for one text encoder: how many vectors of which width, and their mean length."""

    word: str
    component: str
    vectors: int
    width: int
    length: float


@dataclass(frozen=True)
class Inspection:
    """A file's tensors, looked into. Modules are named "unet down_blocks.0...".

    Attributes:
        info: what the header tells.
        on_base: whether updates were measured by what they make of a base's weights.
        modules: in the file's order.
        components: what each has of the adapter.
        blocks: {component: its blocks, as the base runs them}.
        not_finite: tensors with NaN or infinity in them, which turn every picture black.
        dead: {module: why it changes nothing}.
        loud: {module: how many times the median of its component}, of those whose update sticks out, by
            `Measure.gain`.
        broken: {module: why its tensors make no update}.
        misfits: modules that the base of its family has not, or has in another size.
        unknown: tensors whose names are in no known format.
        biases: {module: norm of what is added to its bias}.
        unmeasured: {algorithm: modules}, of those whose update depends on the base's weight, or is too
            large to form.
        readers: what other programs make of the file.
    """

    info: AdapterInfo
    on_base: bool
    modules: tuple[Look, ...]
    components: tuple[Share, ...]
    blocks: Mapping[str, tuple[Share, ...]]
    not_finite: tuple[BadTensor, ...]
    dead: Mapping[str, str]
    loud: Mapping[str, float]
    broken: Mapping[str, str]
    misfits: tuple[str, ...]
    unknown: tuple[str, ...]
    biases: Mapping[str, float]
    unmeasured: Mapping[str, int]
    words: tuple[InspectedWord, ...]
    readers: tuple[Verdict, ...]

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "file": self.info.file,
            "family": self.info.family,
            "formats": list(self.info.formats),
            "components": [asdict(share) for share in self.components],
            "blocks": {c: [asdict(share) for share in shares] for c, shares in self.blocks.items()},
            "not_finite": [asdict(tensor) for tensor in self.not_finite],
            "dead": dict(self.dead),
            "loud": dict(self.loud),
            "broken": dict(self.broken),
            "misfits": list(self.misfits),
            "unknown": list(self.unknown),
            "biases": dict(self.biases),
            "unmeasured": dict(self.unmeasured),
            "words": [asdict(word) for word in self.words],
            "readers": [asdict(verdict) for verdict in self.readers],
            "modules": [_module(look) for look in self.modules],
        }


def inspect_adapter(
    path: str | os.PathLike[str],
    modules: Modules | None = None,
    *,
    weights: Weights | None = None,
    on_module: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Look into the tensors of the adapter at `path`, one module after another.

    Args:
        modules: of the base, as for `load_adapter`; None takes those of the family that the file was made
            for, and where that is not listed the names in the file.
        weights: of the base, by component and path: DoRA, OFT and IA3 are measured by what they make of them.
        on_module: called with how many modules are done, and of how many.

    Raises:
        AdapterFileError: the file is damaged or unsafe, or holds no adapter. Tensors that make no update are
            no error: they are told.
    """
    info = read_info(path)
    if modules is None:
        modules = family_modules(info.family or "") or {}
    parts = [_Part(source, modules) for source in open_sources(path)]
    count = sum(len(part.groups) for part in parts)
    looks: list[Look] = []
    for part in parts:
        for group in part.groups:
            looks.append(look_at(part.source, group, part.modules, weights))
            if on_module is not None:
                on_module(len(looks), count)
    words, spoilt = _words([part.source for part in parts])
    return Inspection(
        info=info,
        on_base=weights is not None,
        modules=tuple(looks),
        components=by_component(looks),
        blocks=by_block(looks, aliases=family_modules(info.family or "") is not None),
        not_finite=(*(tensor for look in looks for tensor in look.bad), *spoilt),
        dead={look.name: look.dead for look in looks if look.dead},
        loud=_loud(looks),
        broken={look.name: look.broken for look in looks if look.broken},
        misfits=tuple(look.name for look in looks if not look.fits) if modules else (),
        unknown=tuple(key for part in parts for key in part.unknown),
        biases={look.name: look.bias for look in looks if look.bias is not None},
        unmeasured=Counter(look.algorithm for look in looks if _unmeasured(look)),
        words=words,
        readers=judge_readers(path),
    )


class _Part:
    """One of the adapter's files, its tensors by module."""

    def __init__(self, source: Source, modules: Modules) -> None:
        self.source = source
        self.modules = component_of(source, modules)
        self.groups, self.unknown = group_tensors(source, spellings(self.modules))


def _unmeasured(look: Look) -> bool:
    return look.measure is None and look.algorithm != "bias" and not (look.bad or look.broken)


def _loud(looks: list[Look]) -> dict[str, float]:
    found: dict[str, float] = {}
    for component in dict.fromkeys(look.component for look in looks):
        sizes = {
            look.name: look.measure.gain
            for look in looks
            if look.component == component and look.measure is not None and look.measure.rank is not None
        }
        found |= sticking_out(sizes)
    return found


def _words(sources: list[Source]) -> tuple[tuple[InspectedWord, ...], tuple[BadTensor, ...]]:
    """Those that are whole, and the tensors of those that are not."""
    words: list[InspectedWord] = []
    spoilt: list[BadTensor] = []
    for source in sources:
        for key in source.header.tensors:
            if (found := parse_word(key)) is None:
                continue
            word, component = found
            tensors = read_numbers(source, [key])
            if bad := bad_tensors(tensors, f"the word {word!r}"):
                spoilt += bad
            elif tensors[key].numel():
                vectors = tensors[key].double()
                vectors = vectors.reshape(-1, vectors.shape[-1] if vectors.ndim else 1)
                lengths = vectors.norm(dim=-1)
                words.append(
                    InspectedWord(word, component, len(vectors), vectors.shape[1], float(lengths.mean()))
                )
    return tuple(words), tuple(spoilt)


def _module(look: Look) -> dict[str, object]:
    return {
        "component": look.component,
        "path": look.path,
        "block": look.block.name,
        "algorithm": look.algorithm,
        "parameters": look.parameters,
        **({} if look.measure is None else asdict(look.measure)),
    }
