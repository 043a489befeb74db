"""Which tensors of a file belong to which module of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lorastyle.errors import AdapterError, AdapterFileError

from .formats import UNSUPPORTED, Format, TensorName, parse_name
from .formats.embedded import parse_word
from .formats.naming import split_prefix
from .formats.spelling import Spellings
from .formats.stated import default_alpha
from .lowrank import LowRank, is_finite
from .not_ours import no_adapter
from .side_by_side import spans
from .source import Source
from .updates import Built, build

_PLAIN = {"down", "up", "alpha", "scale"}  # the roles of a plain LoRA
_HELD = (torch.float32, torch.float16, torch.bfloat16)  # types that factors are kept in as they are


@dataclass(frozen=True)
class Group:
    """The tensors of one module in the file.

    Attributes:
        target: (component, module path) of the model.
        keys: {role: key}.
        third: which third of the outputs is the target's, where the file has queries, keys and values in one.
    """

    fmt: Format
    spelled: str
    target: tuple[str, str] | None
    keys: dict[str, str]
    algorithms: set[str]
    third: int | None = None

    @property
    def unsupported(self) -> str:
        """The algorithm that is not read, if that is what these tensors are."""
        return next(iter(sorted(self.algorithms & UNSUPPORTED)), "")

    def build(
        self,
        path: Path,
        tensors: Mapping[str, Tensor],
        metadata: Mapping[str, str],
        shape: tuple[int, ...] | None,
    ) -> Built:
        """The updates these tensors make: plain factors in the file's own type, everything else in float32.

        Args:
            tensors: by key, and finite.

        Raises:
            AdapterFileError: a factor is missing, or does not fit the other.
        """
        plain = self.keys.keys() <= _PLAIN
        parts = {role: _floating(tensors[key], plain) for role, key in self.keys.items()}
        component, module = self.target or ("unet", split_prefix(self.spelled)[1])

        def alpha(rank: int | None) -> float:
            return default_alpha(component, module, rank, metadata)

        try:
            if self.third is not None:
                parts = _third(parts, self.third)
            return build(parts, alpha, shape)
        except (
            ValueError,
            TypeError,
            RuntimeError,
            IndexError,
            ArithmeticError,
        ) as error:  # shapes that do not go together
            reason = str(error).rstrip(".")
            raise AdapterFileError.at(path, f"{self.spelled}: {reason}.") from error


def _floating(tensor: Tensor, plain: bool) -> Tensor:
    dtype = tensor.dtype
    if dtype in (torch.int16, torch.int32, torch.int64) or (plain and dtype in _HELD):
        return tensor
    return tensor.float()


def _third(parts: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """One third of the outputs of a LoRA or a difference; what the thirds share stays whole."""
    shared, split = {"down", "mid", "alpha", "scale"}, {"up", "diff", "diff_b", "up_bias"}
    if other := parts.keys() - shared - split:
        raise AdapterError(f"{', '.join(sorted(other))} of queries, keys and values in one is not read")
    if any(parts[role].shape[:1].numel() % 3 for role in split & parts.keys()):
        raise AdapterError("queries, keys and values in one, and not in thirds")
    return {role: part.chunk(3)[number] if role in split else part for role, part in parts.items()}


def refuse_nan(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Are all numbers finite?

    Raises:
        AdapterFileError: a tensor holds NaN or infinity.
    """
    floating = [tensor for tensor in tensors.values() if tensor.is_floating_point()]
    if all(is_finite(span.flat) for span in spans(floating)):
        return
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not is_finite(tensor):
            raise AdapterFileError.at(
                path,
                f"{key} holds NaN or infinity, which turns every picture black. "
                "Use an earlier checkpoint, or train again with a lower learning rate.",
            )


def group_tensors(source: Source, known: Spellings) -> tuple[list[Group], list[str]]:
    """The file's adapter tensors by module, whichever format each of their names is in; and the other names.

    Raises:
        BaseMismatchError, AdapterFileError: no adapter tensor at all, and what it is instead; or one that is
        there twice, or an ambiguous name.
    """
    path, header = source.path, source.header
    groups: dict[object, Group] = {}
    unknown: list[str] = []
    for key in header.tensors:
        if key in source.quantised.keys:
            continue
        parsed = parse_name(key)
        if parsed is None:
            if parse_word(key) is None:
                unknown.append(key)
            continue
        fmt, name = parsed
        thirds = known.thirds(name.module)
        for i, target in enumerate(thirds or [_target(path, name, known)]):
            new = Group(fmt, name.module, target, {}, set(), i if thirds else None)
            group = groups.setdefault(target or name.module, new)
            group.algorithms.add(name.algorithm)
            if name.role in group.keys:
                raise AdapterFileError.at(
                    path, f"{key} and {group.keys[name.role]} are the same tensor of one module."
                )
            group.keys[name.role] = key
    if not groups:
        raise no_adapter(path, [source])
    return list(groups.values()), unknown


def _target(path: Path, name: TensorName, known: Spellings) -> tuple[str, str] | None:
    hits = known.places(name.module)
    if len(hits) > 1:
        both = " and ".join(path if hits[0][0] == hits[1][0] else f"{c}.{path}" for c, path in hits[:2])
        raise AdapterFileError.at(
            path, f"{name.module} could be {both} of this model; its names are ambiguous."
        )
    return hits[0] if hits else None


def fit(built: Built, shape: tuple[int, ...] | None) -> Built | None:
    """The updates for a weight of this shape, a low-rank one in it; None if they are of another size."""
    if shape is None:
        return built
    low_rank = None if built.low_rank is None else _reshaped(built.low_rank, shape)
    missing = built.low_rank is not None and low_rank is None
    if missing or (built.dense is not None and not built.dense.fits(shape)):
        return None
    return Built(low_rank, built.dense)


def _reshaped(update: LowRank, shape: tuple[int, ...]) -> LowRank | None:
    """In the weight's own form, Linear or Conv2d: a 1x1 convolution holds the numbers of a Linear, and some
    files have a convolution's kernel flat.
    """
    if update.shape == shape:
        return update
    if len(shape) == 2 and update.shape == (*shape, 1, 1):
        return LowRank(update.down.flatten(1), update.up.flatten(1), update.alpha)
    if len(shape) == 4 and update.shape == (shape[0], math.prod(shape[1:])):
        down = update.down.reshape(update.rank, *shape[1:])
        return LowRank(down, update.up[..., None, None], update.alpha)
    return None
