"""The tensors of an adapter as numbers that can be calculated with, whatever type a file stores them in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lorastyle.errors import AdapterFileError

from .files import powers_of_two, read_tensors
from .formats import parse_name
from .source import Source

_KEPT = (torch.float32, torch.float16, torch.bfloat16)
_WHOLE = frozenset({"alpha", "scale", "on_input", "bias_indices", "bias_size"})
"""Roles of tensors that hold whole numbers by right."""
_BLOCK = 128  # rows and columns that share one of DeepSeek's scales


def read_numbers(source: Source, keys: Iterable[str]) -> dict[str, Tensor]:
    """The tensors called `keys`: float32, float16 and bfloat16 as they are, others widened to float32, and
    each multiplied by the scale that the file has beside it. What counts or points stays as it is.

    Raises:
        AdapterFileError: a tensor is stored in whole numbers (or complex, or packed ones) and nothing says
            what they stand for; a scale does not fit its tensor; or see `read_tensors`.
    """
    keys, quantised = list(keys), source.quantised
    loose = {_scaled_by(source, scale, module): scale for scale, module in quantised.loose.items()}
    beside = {key: dict(quantised.beside.get(key, {})) for key in keys}
    for key in beside.keys() & loose.keys():
        beside[key]["scale"] = loose[key]
    more = {scale for found in beside.values() for kind, scale in found.items() if kind != "unread"}
    stored = {
        key: powers_of_two(tensor) if source.header.tensors[key].dtype == "F8_E8M0" else tensor
        for key, tensor in read_tensors(source.path, source.header, [*keys, *more - set(keys)]).items()
    }
    numbers: dict[str, Tensor] = {}
    for key in keys:
        tensor, found = stored[key], beside[key]
        if not found and tensor.dtype in _KEPT:
            numbers[key] = tensor
            continue
        parsed = parse_name(key)
        if parsed is not None and parsed[1].role in _WHOLE and not tensor.is_complex():
            numbers[key] = tensor.float() if tensor.is_floating_point() else tensor.to(torch.int64)
            continue
        scales = {kind: stored[name].float() for kind, name in found.items() if name in stored}
        numbers[key] = _widened(source, key, tensor, scales, found.get("unread"))
    return numbers


def _scaled_by(source: Source, scale: str, module: str) -> str:
    """The one tensor of a module that is stored in 8 bits: what a scale of the module is of."""
    tensors = source.header.tensors
    own = [
        key
        for key, entry in tensors.items()
        if key.startswith(f"{module}.") and entry.size > 1 and entry.dtype.startswith(("F8", "I8", "U8"))
    ]
    if len(own) == 1:
        return own[0]
    raise AdapterFileError.at(
        source.path,
        f"{scale} does not say which tensor of {module} it scales. Export the file again in "
        "float16, bfloat16 or float32.",
    )


def _widened(
    source: Source, key: str, tensor: Tensor, scales: Mapping[str, Tensor], unread: str | None
) -> Tensor:
    if unread is not None:
        raise AdapterFileError.at(
            source.path,
            f"{key} is quantised in a way that lorastyle does not read ({unread} is beside "
            "it). Export the file again in float16, bfloat16 or float32.",
        )
    if tensor.is_complex() or not (tensor.is_floating_point() or scales.keys() & {"scale", "rows"}):
        dtype = source.header.tensors[key].dtype
        what = "complex numbers" if tensor.is_complex() else "whole numbers, and no scale for them is there"
        raise AdapterFileError.at(
            source.path,
            f"{key} is stored as {dtype}: {what}. Export the file again in float16, bfloat16 or float32.",
        )
    wide = tensor.float()
    try:
        if "zero" in scales:
            wide = wide - _spread(scales["zero"], wide)
        if "rows" in scales:
            wide = wide * (_spread(scales["rows"], wide) / 127)
        if "scale" in scales:
            wide = wide * _spread(scales["scale"], wide)
    except ValueError as error:
        raise AdapterFileError.at(
            source.path,
            f"{key} of shape {tuple(tensor.shape)} has {error}. Export the file again in "
            "float16, bfloat16 or float32.",
        ) from error
    return wide


def _spread(scale: Tensor, tensor: Tensor) -> Tensor:
    """A scale for all numbers, for each row, for each place, or for each block of 128 x 128, as `tensor`
    needs it.

    Raises:
        ValueError: it is none of these.
    """
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.ndim == tensor.ndim and all(a in (1, b) for a, b in zip(scale.shape, tensor.shape, strict=True)):
        return scale
    if tensor.ndim > 1 and scale.numel() == tensor.shape[0] and max(scale.shape) == scale.numel():
        return scale.reshape(-1, *[1] * (tensor.ndim - 1))
    rows, columns = (-(-size // _BLOCK) for size in (*tensor.shape, 0, 0)[:2])
    if tensor.ndim == 2 and tuple(scale.shape) == (rows, columns):
        wide = scale.repeat_interleave(_BLOCK, 0).repeat_interleave(_BLOCK, 1)
        return wide[: tensor.shape[0], : tensor.shape[1]]
    raise ValueError(f"a scale of shape {tuple(scale.shape)}, which does not fit")
