"""The modules that a file's header names, and the few bytes of their alphas: at once, and without torch."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorastyle.errors import AdapterFileError

from .formats import Format, parse_name
from .formats.naming import split_prefix
from .formats.stated import Module, default_alpha, stated_notes
from .header import TensorEntry
from .source import Source, open_sources


@dataclass(frozen=True)
class FileModule:
    """The tensors of one module in a file, as the file has them.

    Attributes:
        fmt: whose names they are.
        spelled: the module's name in the file, with its component's prefix.
        algorithm: the kind of update; empty for plain LoRA.
        keys: {role: the tensor's whole key}.
        entries: {role: type, shape and place of the tensor}.
        alpha, scale: the numbers in its tensors of these names; None where it has none.
        on_input: of IA3: whether it scales the inputs; None where no tensor says.
        default_alpha: what alpha is without a tensor: the rank, or what the metadata say. None where there is
            no rank to it.
    """

    fmt: Format
    component: str
    spelled: str
    algorithm: str
    keys: Mapping[str, str]
    entries: Mapping[str, TensorEntry]
    alpha: float | None
    scale: float | None
    default_alpha: float | None
    on_input: bool | None = None

    @property
    def rank(self) -> int | None:
        """Of its `down` factor, or of the side of a LoHa or LoKr that has factors."""
        for role in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
            if (entry := self.entries.get(role)) is not None and entry.shape:
                return entry.shape[0] or None
        return None

    @property
    def strength(self) -> float | None:
        """alpha / rank, or A1111's `.scale` in its place; None where there is no rank, and no such factor."""
        if self.scale is not None:
            return self.scale
        alpha = self.default_alpha if self.alpha is None else self.alpha
        return None if self.rank is None or alpha is None else alpha / self.rank

    @property
    def parameters(self) -> int:
        return sum(entry.size for role, entry in self.entries.items() if role != "alpha")

    @property
    def bytes(self) -> int:
        return sum(entry.stop - entry.start for entry in self.entries.values())

    def end(self, role: str) -> str:
        """What follows the module's name in the tensor's key."""
        return self.keys[role][len(self.spelled) :]


@dataclass(frozen=True)
class Part:
    """One file of the adapter (a peft folder may have several): its modules, and the keys of no module."""

    source: Source
    modules: tuple[FileModule, ...]
    others: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of strengths that are stated beside the tensors.

        Raises:
            AdapterFileError: what is stated cannot be read.
        """
        modules = (Module(m.component, split_prefix(m.spelled)[1], m.rank, m.alpha) for m in self.modules)
        return stated_notes(modules, self.source.metadata)


def read_parts(path: str | os.PathLike[str]) -> list[Part]:
    """The modules in each file of the adapter at `path`.

    Raises:
        AdapterFileError: a file is damaged or unsafe (see `read_header`), or an alpha is no number.
    """
    return [part_of(source) for source in open_sources(path)]


def part_of(source: Source) -> Part:
    """The modules in one file of an adapter. Raises AdapterFileError: an alpha is no number."""
    formats: dict[str, tuple[Format, str]] = {}
    algorithms: dict[str, str] = {}
    keys: dict[str, dict[str, str]] = {}
    others: list[str] = []
    for key in source.header.tensors:
        if key in source.quantised.keys:
            continue
        if (parsed := parse_name(key)) is None:
            others.append(key)
            continue
        fmt, name = parsed
        formats.setdefault(name.module, (fmt, source.component or name.component))
        algorithms[name.module] = name.algorithm or algorithms.get(name.module, "")
        keys.setdefault(name.module, {})[name.role] = key
    numbers = dict(_scalars(source, [key for own in keys.values() for key in _numbers(own)]))
    modules = tuple(
        _module(source, *formats[module], module, algorithms[module], own, numbers)
        for module, own in keys.items()
    )
    return Part(source, modules, tuple(others))


def _numbers(keys: Mapping[str, str]) -> list[str]:
    return [keys[role] for role in ("alpha", "scale", "on_input") if role in keys]


def _module(
    source: Source,
    fmt: Format,
    component: str,
    spelled: str,
    algorithm: str,
    keys: Mapping[str, str],
    numbers: Mapping[str, float],
) -> FileModule:
    entries = {role: source.header.tensors[key] for role, key in keys.items()}
    alpha, scale = (numbers.get(keys.get(role, "")) for role in ("alpha", "scale"))
    side = numbers.get(keys.get("on_input", ""))
    on_input = None if side is None else bool(side)
    module = FileModule(fmt, component, spelled, algorithm, keys, entries, alpha, scale, None, on_input)
    if module.rank is None:
        return module
    try:
        default = default_alpha(component, split_prefix(spelled)[1], module.rank, source.metadata)
    except AdapterFileError as error:
        raise AdapterFileError.at(source.path, str(error)) from error
    except OverflowError as error:
        raise AdapterFileError.at(source.path, f"an alpha in its metadata is no number ({error}).") from error
    return FileModule(fmt, component, spelled, algorithm, keys, entries, alpha, scale, default)


def _scalars(source: Source, keys: list[str]) -> Iterator[tuple[str, float]]:
    """The numbers in tensors of one number, in the order that they lie in."""
    entries = sorted((source.header.tensors[key].start, key) for key in keys)
    try:
        with Path(source.path).open("rb") as file:
            for start, key in entries:
                entry = source.header.tensors[key]
                if entry.size == 1:
                    file.seek(source.header.data_start + start)
                    yield key, _scalar(entry.dtype, file.read(entry.stop - entry.start))
    except OSError as error:
        raise AdapterFileError.at(source.path, f"cannot be read ({error.strerror or error}).") from error
    except struct.error as error:
        raise AdapterFileError.at(
            source.path, "the file was changed while it was read. Read it again."
        ) from error


_STRUCT = {
    "F64": "<d", "F32": "<f", "F16": "<e",
    "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b",
    "U64": "<Q", "U32": "<I", "U16": "<H", "U8": "<B", "BOOL": "<?",
}  # fmt: skip
# Bits of the exponent and of what follows it, the exponent's bias, and whether the format is one without
# infinity and minus zero (whose pattern is its NaN). OCP 8-bit Floating Point 1.0, and arXiv:2206.02915.
_FP8 = {
    "F8_E4M3": (4, 3, 7, False), "F8_E5M2": (5, 2, 15, False),
    "F8_E4M3FNUZ": (4, 3, 8, True), "F8_E5M2FNUZ": (5, 2, 16, True),
}  # fmt: skip


def _scalar(dtype: str, data: bytes) -> float:
    if dtype == "BF16":  # the upper half of a float32
        return float(struct.unpack("<f", b"\0\0" + data)[0])
    if dtype in _FP8:
        return _fp8(data[0], *_FP8[dtype])
    if dtype == "F8_E8M0":
        return math.nan if data[0] == 255 else 2.0 ** (data[0] - 127)
    return float(struct.unpack(_STRUCT[dtype], data)[0]) if dtype in _STRUCT else math.nan


def _fp8(byte: int, exponent_bits: int, fraction_bits: int, bias: int, no_infinity: bool) -> float:
    sign = -1.0 if byte & 0x80 else 1.0
    exponent, fraction = (byte & 0x7F) >> fraction_bits, byte & (1 << fraction_bits) - 1
    if no_infinity:
        if byte == 0x80:
            return math.nan
    elif exponent_bits == 5 and exponent == 31:
        return math.nan if fraction else sign * math.inf
    elif byte & 0x7F == 0x7F:
        return math.nan
    share = fraction / (1 << fraction_bits)
    if exponent == 0:
        return sign * share * 2.0 ** (1 - bias)
    return sign * (1 + share) * 2.0 ** (exponent - bias)
