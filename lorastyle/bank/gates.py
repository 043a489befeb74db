"""The gates of all layers as one tensor, of which each layer reads its own stretch.

A row of a stack belongs to an adapter and a component; its gate is the strength that the mix has for the two,
times what the row's layer weighs it with. So new scales are one indexed read, one product and one copy,
however many layers there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .mix import Column, Mix
from .slots import Slot


@dataclass(eq=False)
class _Group:
    """The layers of one device and type.

    Attributes:
        stretches: each layer's slot, its first row, and how many it has.
        parts: of each layer's stack in turn, the adapters, with their modules.
        ranks: how many rows each of the parts has.
        owners: (R,), the column of each row.
        weights: (R,), float32; None where all of them are 1.
        gate: (R,) or (batch, 1, R), what the layers read.
    """

    stretches: list[tuple[Slot, int, int]]
    parts: list[tuple[str, str, str]]
    ranks: Tensor
    owners: Tensor
    weights: Tensor | None
    gate: Tensor
    views: list[Tensor] = field(default_factory=list[Tensor])

    def left(self) -> bool:
        """Whether a layer reads another tensor by now, as it does when the model was moved."""
        return any(
            slot.layer._buffers["gate"] is not view  # pyright: ignore[reportPrivateUsage]
            for (slot, _, _), view in zip(self.stretches, self.views, strict=bool(self.views))
        )

    def write(self, mix: Mix, table: Tensor, opened: frozenset[Column], *, changed: bool) -> None:
        """
        Args:
            mix: for what it chooses of each module.
            table: the strength of each column, (columns,) or (batch, 1, columns).
            opened: the columns that are not zero.
            changed: whether they are others than at the last call.
        """
        values = table.to(self.owners.device).index_select(-1, self.owners)
        if self.weights is not None:
            values = values * self.weights
        if mix.choices:
            chosen = torch.tensor([mix.choice(*part) for part in self.parts])
            values = values * chosen.repeat_interleave(self.ranks).to(values.device)
        values = values.to(self.gate.dtype)
        if values.shape == self.gate.shape and self.views:
            self.gate.copy_(values)
            if not changed:
                return
        else:
            self.gate = values
            # detached: torch.compile would guard what they are views of
            self.views = [values.narrow(-1, first, count).detach() for _, first, count in self.stretches]
        for (slot, _, _), view in zip(self.stretches, self.views, strict=True):
            on = any((name, slot.residents[name].component) in opened for name in slot.stacked)
            slot.layer.use_gate(view, on)


class Gates:
    """What the layers of a bank read, brought up to date by `write`."""

    def __init__(self) -> None:
        self._slots: list[Slot] = []
        self._trained: list[Slot] = []
        self._groups: list[_Group] = []
        self._columns: dict[Column, int] = {}
        self._open: frozenset[Column] = frozenset()  # the columns that were not zero at the last write

    def lay_out(self, slots: Iterable[Slot], mix: Mix) -> None:
        """After stacks, weights or the layers' devices have changed. `write` is to follow."""
        self._slots, self._columns = list(slots), {}
        self._trained = [slot for slot in self._slots if slot.layer.trainable is not None]
        by_kind: dict[tuple[torch.device, torch.dtype], list[Slot]] = {}
        for slot in self._slots:
            for name, resident in slot.residents.items():
                self._columns.setdefault((name, resident.component), len(self._columns))
            if slot.stacked:
                by_kind.setdefault((slot.layer.device, slot.layer.dtype), []).append(slot)
        with torch.inference_mode(False):  # or the gates could never be used in training
            self._groups = [self._group(members, mix, *kind) for kind, members in by_kind.items()]

    def _group(self, slots: list[Slot], mix: Mix, device: torch.device, dtype: torch.dtype) -> _Group:
        owners: list[int] = []
        weights: list[float] = []
        ranks: list[int] = []
        stretches: list[tuple[Slot, int, int]] = []
        parts: list[tuple[str, str, str]] = []
        row = 0
        for slot in slots:
            first = row
            for name in slot.stacked:
                resident = slot.residents[name]
                assert resident.update is not None
                owners.append(self._columns[name, resident.component])
                weights.append(slot.weight(name, mix))
                parts.append((name, resident.component, resident.path))
                ranks.append(resident.update.rank)
                row += ranks[-1]
            stretches.append((slot, first, row - first))
        repeats = torch.tensor(ranks)
        return _Group(
            stretches,
            parts,
            repeats,
            torch.tensor(owners).repeat_interleave(repeats).to(device),
            None if set(weights) == {1.0} else torch.tensor(weights).repeat_interleave(repeats).to(device),
            torch.empty(0, device=device, dtype=dtype),
        )

    @torch.no_grad()
    def write(self, mix: Mix) -> None:
        """Bring every gate, and every decision whether to compute a side at all, up to date."""
        if not self._slots:
            return
        if any(group.left() for group in self._groups):  # the model went elsewhere
            self.lay_out(self._slots, mix)
        columns = [mix.column(*column) for column in self._columns]
        opened = frozenset(c for c, values in zip(self._columns, columns, strict=True) if any(values))
        with torch.inference_mode(False):
            table = torch.tensor(columns).T.contiguous()  # (1 or batch, columns)
            table = table[:, None] if mix.rows else table[0]
            for group in self._groups:
                group.write(mix, table, opened, changed=opened != self._open)
            for slot in self._trained:
                _write_trained(slot, mix)
        self._open = opened


def _write_trained(slot: Slot, mix: Mix) -> None:
    (name, component), rank = next(
        ((name, r.component), slot.trainable.rank) for name, r in slot.residents.items() if r.update is None
    )
    chosen = mix.choice(name, component, slot.residents[name].path)
    strengths = torch.tensor(mix.column(name, component)) * (slot.weight(name, mix) * chosen)
    gate = strengths[:, None, None].expand(-1, 1, rank) if mix.rows else strengths.expand(rank)
    slot.layer.set_trained_gate(gate)
