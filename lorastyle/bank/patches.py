"""Weights that stand in for a module's own while updates of other kinds than low rank are resident.

Such an update is no side branch: it is computed from the original weight and added to it. Several of them, of
several adapters, are each computed from the original and then summed. The original tensor objects are kept
and put back, so leaving changes no bit.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .mix import Mix
from .residents import DenseResident


@dataclass(eq=False)
class _Patch:
    """A module with its residents, by adapter name, and its own tensors while others stand in for them."""

    module: nn.Module
    residents: dict[str, DenseResident] = field(default_factory=dict[str, DenseResident])
    originals: dict[str, nn.Parameter] = field(default_factory=dict[str, nn.Parameter])
    applied: tuple[tuple[str, float], ...] = ()

    def wanted(self, mix: Mix) -> tuple[tuple[str, float], ...]:
        """The residents that are on, each with its strength."""
        pairs = ((name, mix.strength(name, r.component, r.path)) for name, r in self.residents.items())
        return tuple((name, strength) for name, strength in pairs if strength != 0)

    def apply(self, wanted: tuple[tuple[str, float], ...]) -> None:
        if wanted == self.applied:
            return
        self.restore()
        if not wanted:
            return
        weight, bias = self._sums(wanted)
        for name, total in (("weight", weight), ("bias", bias)):
            if total is not None:
                self._stand_in(name, total)
        self.applied = wanted

    @torch.no_grad()
    def dense(self, wanted: tuple[tuple[str, float], ...]) -> Tensor | None:
        """What is added to the original weight, in float32."""
        weight = self.original("weight")
        total: Tensor | None = None
        for name, scale in wanted:
            delta = self.residents[name].update.delta(weight)
            if delta is not None:
                total = delta * scale if total is None else total.add_(delta, alpha=scale)
        return total

    @torch.no_grad()
    def _sums(self, wanted: tuple[tuple[str, float], ...]) -> tuple[Tensor | None, Tensor | None]:
        bias: Tensor | None = None
        for name, scale in wanted:
            more = self.residents[name].update.bias
            if more is not None:
                more = more.to(self.original("bias").device).float() * scale
                bias = more if bias is None else bias + more
        return self.dense(wanted), bias

    @torch.no_grad()
    def _stand_in(self, name: str, total: Tensor) -> None:
        own = self.original(name)
        with torch.inference_mode(False):  # or it could never be used where gradients are wanted
            changed = (own.to(torch.promote_types(own.dtype, torch.float32)) + total).to(own.dtype)
            stand_in = nn.Parameter(changed, requires_grad=False)
        self.originals[name] = own
        setattr(self.module, name, stand_in)

    def original(self, name: str) -> nn.Parameter:
        return self.originals[name] if name in self.originals else getattr(self.module, name)

    def restore(self) -> None:
        for name, own in self.originals.items():
            now = getattr(self.module, name)
            moved = (now.device, now.dtype) != (own.device, own.dtype)
            if moved and now.device.type != "meta":  # the model went elsewhere meanwhile
                own.data = own.data.to(now.device, now.dtype)
            setattr(self.module, name, own)
        self.originals.clear()
        self.applied = ()


class Patches:
    """The updates of a bank that are not low rank, fused into the weights at the present scales."""

    def __init__(self) -> None:
        self._patches: dict[int, _Patch] = {}  # by the module's id
        self._mix = Mix()
        self._lifted = 0

    def __len__(self) -> int:
        return len(self._patches)

    def add(self, name: str, residents: Sequence[DenseResident]) -> None:
        """Make these resident; `refresh` fuses them."""
        for resident in residents:
            patch = self._patches.setdefault(id(resident.module), _Patch(resident.module))
            patch.residents[name] = resident

    def remove(self, name: str) -> None:
        """Send an adapter away: weights that no other adapter changes are the module's own again."""
        for key, patch in list(self._patches.items()):
            if patch.residents.pop(name, None) is None:
                continue
            if patch.residents:
                self._apply(patch)
            else:
                patch.restore()
                del self._patches[key]

    def refresh(self, mix: Mix) -> None:
        """Bring the weights up to date, or, where that fails, leave them as they are."""
        before, self._mix = self._mix, mix
        try:
            for patch in self._patches.values():
                self._apply(patch)
        except BaseException:  # no memory for a weight
            self._mix = before
            for patch in self._patches.values():
                self._apply(patch)
            raise

    def original(self, module: nn.Module) -> Tensor:
        """The module's own weight, whatever stands in for it."""
        patch = self._patches.get(id(module))
        if patch is not None:
            return patch.original("weight")
        assert isinstance(module.weight, Tensor)
        return module.weight

    def dense(self, module: nn.Module) -> Tensor | None:
        """What the residents add to the module's own weight, in float32; None for nothing."""
        patch = self._patches.get(id(module))
        return None if patch is None else patch.dense(patch.wanted(self._mix))

    @contextmanager
    def lifted(self) -> Generator[None]:
        """For the length of a `with` block, the modules' own weights."""
        self._lifted += 1
        for patch in self._patches.values():
            patch.restore()
        try:
            yield
        finally:
            self._lifted -= 1
            for patch in self._patches.values():
                self._apply(patch)

    def _apply(self, patch: _Patch) -> None:
        if not self._lifted:
            patch.apply(patch.wanted(self._mix))
