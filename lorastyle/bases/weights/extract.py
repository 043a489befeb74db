"""The difference of two models as an adapter."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lorastyle.adapters import (
    Extracted,
    Limit,
    TooManyBytes,
    extract,
    family_title,
    free_target,
    numbers_within,
    save_adapter,
    written_dtypes,
)
from lorastyle.bank import match_paths
from lorastyle.errors import BaseError, BaseMismatchError, TargetError

from .stored import StoredBase, StoredTensor, open_stored

DEFAULT_RANK = 32
_COARSE = {"F64": 3, "F32": 3, "F16": 2, "BF16": 1}  # and 0 for the types of 8 bits
_DTYPES = {
    "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}  # fmt: skip


@dataclass(frozen=True)
class ExtractedFile:
    """What was written.

    Attributes:
        dtype: what the factors are stored as, "float16 and float32" where some needed more than asked for.
        alike: modules that are the same in both models, and so not in the adapter.
        left_out: tensors that differ and are not in it: norm layers, biases, embeddings, other layers.
        other_size: layers that have another size in the other model (the first one of inpainting models).
    """

    path: Path
    dtype: str
    bytes: int
    extracted: Extracted
    alike: int
    left_out: int
    other_size: tuple[str, ...]


def extract_adapter(
    tuned: str,
    base: str,
    target: str | os.PathLike[str],
    limit: Limit | None = None,
    *,
    targets: Sequence[str] = ("all",),
    most_bytes: int | None = None,
    dtype: str = "float16",
    on_module: Callable[[int, int], None] | None = None,
) -> ExtractedFile:
    """Write the difference of two models of one family as an adapter in kohya's names: on `base` it does what
    `tuned` does, as far as its rank allows. Nothing is clamped.

    Both are read tensor by tensor, so this takes the memory of one layer.

    Args:
        tuned, base: names of bases, as `load_base` takes them.
        limit: None is rank 32.
        targets: which layers, as `select_targets` takes them: presets, names, globs.
        most_bytes: of the file, header and all; instead of a limit.
        dtype: see `save_adapter`.

    Raises:
        BaseError: one cannot be read; or both are the same.
        BaseMismatchError: they are of different families.
        TargetError: no layer matches.
        AdapterError, AdapterFileError, ConfigError: see `Limit` and `save_adapter`; a size that no rank has.
    """
    target = free_target(target)
    if most_bytes is not None and limit:
        limit = Limit(limit.rank, limit.energy, 1)  # says that both cannot be
    new, old = open_stored(tuned), open_stored(base)
    if new.family != old.family:
        raise BaseMismatchError(
            f'"{tuned}" is {family_title(new.family)} and "{base}" {family_title(old.family)}: only models '
            "of one family have a difference. Name another base."
        )
    pair = _Pair(new, old, _chosen(old, targets))
    shapes = [old.tensors[c][f"{p}.weight"].shape for c, p in pair.changed]
    if most_bytes is not None:
        record = {"extracted from": "x" * 1000}
        room = numbers_within(most_bytes, shapes, name=target.stem, dtype=dtype, metadata=record, others=0)
        limit = Limit(numbers=room)
    while True:
        extracted = extract(
            pair.differences(),
            limit or Limit(rank=DEFAULT_RANK),
            name=target.stem,
            shapes=shapes,
            told={"tuned": Path(tuned).stem, "base": Path(base).stem},
            metadata={"lorastyle.base": old.family},
            on_module=on_module,
        )
        try:
            saved = save_adapter(extracted.adapter, target, dtype=dtype, most_bytes=most_bytes)
            break
        except TooManyBytes as error:  # some of it had to be stored in float32
            if limit is not None and limit.numbers is not None and most_bytes is not None:
                limit = Limit(numbers=limit.numbers * most_bytes // error.bytes)
    return ExtractedFile(
        saved,
        written_dtypes(saved),
        saved.stat().st_size,
        extracted,
        pair.alike,
        pair.left_out,
        tuple(pair.other_size),
    )


def _chosen(base: StoredBase, targets: Sequence[str]) -> set[tuple[str, str]]:
    layers = {c: [p for p, shape in paths.items() if len(shape) > 1] for c, paths in base.shapes.items()}
    chosen = {
        (component, path)
        for component, paths in layers.items()
        for pattern in targets
        for path in match_paths(paths, pattern, component)
    }
    if not chosen:
        raise TargetError(
            f"No layer matches {', '.join(targets)}. Presets are attention, attention+ff and all."
        )
    return chosen


class _Pair:
    """Two models side by side: what of them differs."""

    def __init__(self, new: StoredBase, old: StoredBase, chosen: set[tuple[str, str]]) -> None:
        self._new, self._old = new, old
        self.changed: list[tuple[str, str]] = []
        self.other_size: list[str] = []
        self.alike = self.left_out = 0
        for component, tensors in old.tensors.items():
            for name, before in tensors.items():
                after = new.tensors.get(component, {}).get(name)
                path, _, leaf = name.rpartition(".")
                wanted = leaf == "weight" and (component, path) in chosen
                if after is None or after.shape != before.shape:
                    self.other_size.append(f"{component} {name}")
                elif "position_ids" in name:
                    continue
                elif _alike(after, before):
                    self.alike += wanted
                elif wanted:
                    self.changed.append((component, path))
                else:
                    self.left_out += 1
        if not self.changed:
            raise BaseError(
                f'"{new.name}" and "{old.name}" have the same weights in all {self.alike} layers that were '
                "compared, so there is nothing to extract. Name the tuned model and the one it came from."
            )

    def differences(self) -> Iterator[tuple[str, str, Tensor]]:
        for component, path in self.changed:
            yield component, path, self._new.weight(component, path) - self._old.weight(component, path)


def _alike(first: StoredTensor, second: StoredTensor) -> bool:
    """The same numbers, or the same when both are rounded to the coarser of their types."""
    a, b = first.read(), second.read()
    coarser = min((first.dtype, second.dtype), key=lambda dtype: _COARSE.get(dtype, 0))
    dtype = _DTYPES.get(coarser, torch.float32)
    return torch.equal(a.to(dtype).float(), b.to(dtype).float())
