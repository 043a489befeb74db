"""Updates stacked on the rank axis: `down = [A_1; ...; A_k]` and `up = [s_1 B_1, ..., s_k B_k]`.

The factors of one file lie side by side in memory. Where an adapter is the first at its modules, as it is
when one file is loaded, all are brought to the device and type of the model at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from lorastyle.adapters import LowRank, Span, is_finite, room, spans

_ALIGNED = 64  # bytes: what vector units and tensor cores load at once

_PIECE = 1 << 15  # numbers: what torch gives to one thread, which no busy machine can hold up

Stack = tuple[Tensor, Tensor]
"""down (R, in) or (R, in, height, width); up (out, R) or (out, R, 1, 1), with alpha / rank taken in."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is to be stacked, and for where. There is at least one update."""

    updates: Sequence[LowRank]
    device: torch.device
    dtype: torch.dtype

    @property
    def plain(self) -> bool:
        """Whether bringing the factors there is all there is to do, at most times a power of two."""
        first = self.updates[0]
        exact = first.scale == 0 or abs(math.frexp(first.scale)[0]) == 0.5
        return len(self.updates) == 1 and exact and self.dtype in (torch.bfloat16, torch.float32)


@torch.no_grad()
def make_stacks(wanted: Sequence[Wanted]) -> list[Stack]:
    """The stack of each."""
    plain = [one for one in wanted if one.plain]
    moved = iter(_moved(plain))
    return [next(moved) if one.plain else _joined(one) for one in wanted]


def _moved(wanted: Sequence[Wanted]) -> list[Stack]:
    """Of one update each, whose type is the wanted one or is made it without a thought."""
    pairs = [(one.updates[0].down.detach(), one.updates[0].up.detach()) for one in wanted]
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for one, pair in zip(wanted, pairs, strict=True):
        groups.setdefault((one.device, one.dtype), []).extend(pair)
    there: dict[int, Tensor] = {}
    for (device, dtype), factors in groups.items():
        for span in spans(factors):
            there |= zip(map(id, span.members), _brought(span, device, dtype), strict=True)
    stacks: list[Stack] = []
    for one, (down, up) in zip(wanted, pairs, strict=True):
        scale = one.updates[0].scale
        new_up = there[id(up)]
        if scale != 1:  # in place only where it is no longer the adapter's own
            new_up = new_up * scale if new_up.data_ptr() == up.data_ptr() else new_up.mul_(scale)
        stacks.append((there[id(down)], new_up))
    return stacks


def _brought(span: Span, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """The members on the device in the type, starting where its kernels are fast; themselves, where they are
    so already.
    """
    flat = span.flat.to(device)
    step = _ALIGNED // dtype.itemsize
    if all(offset % step == 0 for offset in span.offsets):
        if flat.dtype != dtype:
            flat = _fill(_empty(flat.numel(), device, dtype), flat)
        if flat.data_ptr() % _ALIGNED == 0 or device.type != "cpu":
            return span.like(flat)
    places = list(accumulate((-(-m.numel() // step) * step for m in span.members), initial=0))
    arena = _empty(places.pop(), device, dtype)
    views = Span(arena, span.members, places).like(arena)
    for view, member in zip(views, span.like(flat), strict=True):
        _fill(view, member)
    return views


def _fill(out: Tensor, numbers: Tensor) -> Tensor:
    """`out.copy_(numbers)`.

    On a CPU torch makes bfloat16 of float16 number by number. By way of float32, in pieces that stay in the
    cache, it is five times as fast, and the same bits.
    """
    slow = (numbers.dtype, out.dtype, out.device.type) == (torch.float16, torch.bfloat16, "cpu")
    if not slow or out.numel() < _PIECE:
        return out.copy_(numbers)
    between = torch.empty(_PIECE)
    for piece, source in zip(out.view(-1).split(_PIECE), numbers.reshape(-1).split(_PIECE), strict=True):
        piece.copy_(between[: len(piece)].copy_(source))
    return out


def _empty(count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return room(count, dtype) if device.type == "cpu" else torch.empty(count, dtype=dtype, device=device)


def _joined(one: Wanted) -> Stack:
    """Of any updates. `up` takes alpha / rank in, in float32.

    Beside float16 weights the factors are balanced, and held in float32 where that is not enough: what fused
    mode can draw must not overflow here.
    """
    scaled = [LowRank(u.down.float(), u.up.float() * u.scale, float(u.rank)) for u in one.updates]
    dtype = one.dtype
    if dtype is torch.float16:
        scaled = [update.balanced() for update in scaled]
    down = torch.cat([update.down for update in scaled])
    up = torch.cat([update.up for update in scaled], dim=1)
    if dtype is torch.float16 and not (is_finite(down.to(dtype)) and is_finite(up.to(dtype))):
        dtype = torch.float32
    return down.to(one.device, dtype).contiguous(), up.to(one.device, dtype).contiguous()
