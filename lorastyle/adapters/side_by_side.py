"""Tensors that lie side by side in memory, taken as one: what is done to all of them costs one call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

_MOST_GAPS = 0.1  # of the whole; beyond, the tensors are better taken one by one


@dataclass(frozen=True, eq=False)
class Span:
    """A stretch of one storage.

    Attributes:
        flat: (n,), a view of all of it.
        members: the tensors in it, contiguous each, with nearly nothing between them.
        offsets: where each of them starts in `flat`.
    """

    flat: Tensor
    members: list[Tensor]
    offsets: list[int]

    def like(self, flat: Tensor) -> list[Tensor]:
        """The members' counterparts in another flat tensor of the same length.

        Each is a tensor of its own, not a view to torch: torch.compile would guard what it is a view of.
        """
        return [
            flat.narrow(0, offset, member.numel()).view(member.shape).detach()
            for offset, member in zip(self.offsets, self.members, strict=True)
        ]


def spans(tensors: Iterable[Tensor]) -> list[Span]:
    """The tensors by the storage that they lie in; each is a member of one span.

    Tensors that are alone in a storage, not contiguous, or far apart make a span each.
    """
    together: dict[tuple[int, torch.dtype], list[Tensor]] = {}
    found: list[Span] = []
    for tensor in tensors:
        if tensor.is_contiguous():
            key = tensor.untyped_storage().data_ptr(), tensor.dtype
            together.setdefault(key, []).append(tensor)
        else:
            found.append(_alone(tensor))
    for members in together.values():
        offsets = [int(member.storage_offset()) for member in members]
        first = min(offsets)
        size = max(o + m.numel() for o, m in zip(offsets, members, strict=True)) - first
        if len(members) == 1 or sum(m.numel() for m in members) < (1 - _MOST_GAPS) * size:
            found += [_alone(member) for member in members]
        else:
            flat = members[0].as_strided((size,), (1,), first)
            found.append(Span(flat, members, [offset - first for offset in offsets]))
    return found


def _alone(tensor: Tensor) -> Span:
    return Span(tensor.reshape(-1), [tensor], [0])
