"""How many numbers of low-rank factors a file of a size has room for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lorastyle.errors import AdapterError

from .adapter import Adapter
from .save import DTYPES

_HEADER = 10_000
_PER_MODULE = 600  # bytes of a header for the three tensors of a module, with long names


def numbers_within(
    most_bytes: int,
    shapes: Sequence[tuple[int, ...]],
    *,
    name: str,
    dtype: str,
    metadata: Mapping[str, str],
    others: int,
) -> int:
    """How many numbers the factors of all modules together may have.

    Args:
        most_bytes: of the file, header and all.
        shapes: of the weights that get factors.
        name: of the adapter, for the error.
        others: numbers that are in the file besides; counted as float32, which they may be stored in where
            `dtype` is too coarse for them.

    Raises:
        AdapterError: an unknown dtype, or rank 1 everywhere is too much already.
    """
    if dtype not in DTYPES:
        raise AdapterError(f"dtype is {dtype!r}; allowed are {', '.join(DTYPES)}.")
    width = DTYPES[dtype].itemsize
    text = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    besides = _HEADER + 2 * text + _PER_MODULE * len(shapes) + 4 * others
    room = most_bytes - besides
    least = sum(shape[0] + math.prod(shape[1:]) for shape in shapes)
    if room < least * width:
        raise AdapterError(
            f"{name!r} has no file of {most_bytes / 1e6:.2f} MB: at rank 1 everywhere it needs "
            f"{(besides + least * width) / 1e6:.2f} MB. Ask for that much."
        )
    return room // width


def other_numbers(adapter: Adapter) -> int:
    """The numbers of an adapter that are in no low-rank factor."""
    dense = sum(update.parameters for _, _, update in adapter.dense_updates())
    return dense + sum(v.numel() for vectors in adapter.words.values() for v in vectors.values())
