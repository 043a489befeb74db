"""The gated layer: `base(x) + up((down x) * gate)`, for Linear and Conv2d.

A layer wraps a module of the model, which stays the object it was. It adds

- **frozen residents**, stacked on the rank axis in two buffers of the base's dtype, so that two matrix
  products serve any number of adapters;
- at most one **trainable resident**, whose factors are float32 Parameters, computed beside the stack.

Seen from outside the layer is its base: `weight`, `bias`, `in_features` and every other attribute are the
base's, and `state_dict()` holds the base's tensors under the base's names. Adapters are not in it: a bank
exports them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from lorastyle.adapters import LowRank
from lorastyle.errors import AdapterError

from .stacks import Stack, Wanted, make_stacks
from .trainable import Trainable


class GatedLayer(nn.Module):
    """`y = base(x) + up((down x) * gate)`; see `GatedLinear` and `GatedConv2d` for the shapes."""

    base: nn.Module
    trainable: Trainable | None
    down: Tensor | None
    up: Tensor | None
    gate: Tensor | None
    _bypassed = False
    _original: tuple[nn.Parameter, ...] = ()  # a tuple, or it would be a parameter of the layer
    # Which sides to compute. Decided when the gate is set, so that a call reads no tensor to find out.
    _stack_on = False
    _trainable_on = False
    _place_by_place: Callable[[Tensor], Tensor] | None = None

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        # Past nn.Module's own checks, as in `hold`.
        self._modules.update(base=base, trainable=None)
        self._buffers.update(down=None, up=None, gate=None)
        self._non_persistent_buffers_set.update(self._buffers)
        self.__dict__["training"] = base.training

    # ---- what a call does ------------------------------------------------------------------------------

    def forward(self, input: Tensor) -> Tensor:
        out = self.base(input)
        if self._bypassed or self._original:
            return out
        if self._stack_on:
            out = self._add_stack(out, input)
        if self._trainable_on:
            out = self._add_trainable(out, input)
        return out

    def _add_stack(self, out: Tensor, x: Tensor) -> Tensor:
        down, up, gate = cast(Tensor, self.down), cast(Tensor, self.up), cast(Tensor, self.gate)
        dtype = _product_dtype(x, down)
        inner = self._inner(x.to(dtype), down.to(dtype))
        inner = inner * self._gate_like(inner, gate)
        if self._place_by_place is not None:
            inner = inner * self._place_by_place(inner)
        mine = not self.base._forward_hooks  # a hook may have kept what the base answered
        if mine and out.dtype == dtype and not torch.is_grad_enabled():
            return self._accumulate(out, inner, up.to(dtype))
        return out + self._outer(inner, up.to(dtype)).to(out.dtype)

    def _add_trainable(self, out: Tensor, x: Tensor) -> Tensor:
        own = cast(Trainable, self.trainable)
        dtype = _product_dtype(x, own.down)
        x = F.dropout(x.to(dtype), own.dropout, self.training)
        inner = self._inner(x, own.down.to(dtype))
        inner = inner * (self._gate_like(inner, own.gate) * -own.scale)
        # Subtracting the negated update: out - (+0) is out for every bit pattern, while -0 + (+0) is +0.
        # A fresh adapter, whose update is +0 everywhere, so changes no bit.
        return out - self._outer(inner, own.up.to(dtype)).to(out.dtype)

    def _inner(self, x: Tensor, down: Tensor) -> Tensor:
        raise NotImplementedError

    def _outer(self, inner: Tensor, up: Tensor) -> Tensor:
        raise NotImplementedError

    def _accumulate(self, out: Tensor, inner: Tensor, up: Tensor) -> Tensor:
        """`out += up(inner)`, for calls that need no gradient."""
        raise NotImplementedError

    def _gate_like(self, inner: Tensor, gate: Tensor) -> Tensor:
        """The gate in the dtype of `inner`, viewed so that it multiplies `inner`."""
        raise NotImplementedError

    def __deepcopy__(self, memo: object) -> GatedLayer:
        """No bank would know the copy: nothing could set its scales or take it off."""
        raise AdapterError("Adapters are attached: detach() the bank, copy the model, attach one to each.")

    # ---- what a bank sets ------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """R: the ranks of the stack, then the rank of the trainable resident."""
        frozen = 0 if self.down is None else self.down.shape[0]
        return frozen + (0 if self.trainable is None else self.trainable.rank)

    def stack(self, updates: Sequence[LowRank]) -> None:
        """Make these the frozen residents, and open the gate."""
        with torch.inference_mode(False):  # or the buffers could never be used in training
            made = make_stacks([Wanted(updates, self.device, self.dtype)]) if updates else [None]
        self.hold(made[0])
        self.set_gate(torch.ones(self.rank))

    def hold(self, stack: Stack | None) -> None:
        """Make these the factors of the frozen residents; their gate is closed until it is set."""
        buffers = self._buffers  # past nn.Module's own checks: this is done to hundreds of layers at a time
        buffers["down"], buffers["up"] = (None, None) if stack is None else stack
        self.use_gate(None, False)

    def use_gate(self, gate: Tensor | None, on: bool) -> None:
        """Read the gate of the frozen residents from this tensor, which its owner may write to.

        Args:
            gate: as `set_gate` takes it, of the stack's device and type; None where there is no stack.
            on: whether to compute them at all.
        """
        self._buffers["gate"] = gate
        self._stack_on = on

    def confine(self, factor: Callable[[Tensor], Tensor] | None) -> None:
        """Multiply `(down x) * gate` of the frozen residents by what `factor` makes of it; None undoes it."""
        self._place_by_place = factor

    def set_trainable(self, trainable: Trainable | None) -> None:
        """Make this the resident being trained, or none, and open its part of the gate."""
        self.trainable = trainable
        if trainable is not None:
            trainable.train(self.training)
        self.set_trained_gate(torch.ones(0 if trainable is None else trainable.rank))

    @torch.no_grad()
    def set_gate(self, gate: Tensor) -> None:
        """Set the gate: one factor per rank row, frozen residents in stacking order and the trainable one
        last.

        Args:
            gate: (R,) for a constant; (batch, 1, R) for one per sample; (batch, tokens, R) for one per token,
                where a Conv2d's tokens are the positions of its output grid, row by row.

        A side whose factors are all zero is not computed at all. Give a gate on the CPU where you can:
        deciding that on another device waits for it.

        Raises:
            AdapterError: the shape is none of these.
        """
        if gate.ndim not in (1, 3) or gate.shape[-1] != self.rank:
            raise AdapterError(
                f"A gate of shape {tuple(gate.shape)} does not fit a layer of rank {self.rank}; allowed are "
                f"({self.rank},), (batch, 1, {self.rank}) and (batch, tokens, {self.rank})."
            )
        with torch.inference_mode(False):
            split = 0 if self.down is None else self.down.shape[0]
            frozen = gate[..., :split]
            self.use_gate(
                None if self.down is None else frozen.to(self.device, self.dtype, copy=True),
                bool(frozen.any()),
            )
            self.set_trained_gate(gate[..., split:])

    def set_trained_gate(self, gate: Tensor) -> None:
        """Set the trainable resident's part of the gate; see `set_gate`."""
        self._trainable_on = bool(gate.any())
        if self.trainable is not None:
            self.trainable.gate = gate.to(self.trainable.down.device, torch.float32, copy=True)

    @property
    def device(self) -> torch.device:
        """Where the layer computes: with its base's weight, or where accelerate brings an offloaded one."""
        device = cast(Tensor, self.base.weight).device
        if device.type == "meta" and (hook := getattr(self.base, "_hf_hook", None)) is not None:
            device = torch.device(getattr(hook, "execution_device", None) or device)
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What frozen factors are held in: the base's dtype, or float32 beside quantised weights."""
        dtype = cast(Tensor, self.base.weight).dtype
        return dtype if dtype in PLAIN_DTYPES else torch.float32

    def bypass(self, bypassed: bool) -> None:
        """Call the base and nothing else, until told otherwise."""
        self._bypassed = bypassed

    # ---- fused mode ------------------------------------------------------------------------------------

    @property
    def fused(self) -> bool:
        return bool(self._original)

    def fuse(self, weight: Tensor) -> None:
        """Put `weight` in the place of the base's own, which is kept by reference, and call the base only."""
        self._original = (cast(nn.Parameter, self.base.weight),)
        self.base.weight = nn.Parameter(weight, requires_grad=False)

    def restore(self) -> None:
        """Put the base's own weight back: the same Parameter object, the same bits."""
        for original in self._original:
            fused = cast(Tensor, self.base.weight)
            moved = (fused.device, fused.dtype) != (original.device, original.dtype)
            if moved and fused.device.type != "meta":  # offloaded meanwhile: nothing to follow
                original.data = original.data.to(fused.device, fused.dtype)
            self.base.weight = original
        self._original = ()

    # ---- the base, seen through the layer --------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base":
                raise
            return getattr(self.base, name)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The base's tensors under the base's names."""
        return self.base.state_dict(*args, **kwargs)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for key in [key for key in state_dict if key.startswith(prefix)]:
            state_dict[f"{prefix}base.{key[len(prefix) :]}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        return f"rank={self.rank}, trainable={self.trainable is not None}, fused={self.fused}"


class GatedLinear(GatedLayer):
    """x (..., in) -> (..., out), with `down` (R, in) and `up` (out, R)."""

    def _inner(self, x: Tensor, down: Tensor) -> Tensor:
        return F.linear(x, down)

    def _outer(self, inner: Tensor, up: Tensor) -> Tensor:
        return F.linear(inner, up)

    def _accumulate(self, out: Tensor, inner: Tensor, up: Tensor) -> Tensor:
        if not out.is_contiguous():
            return out + F.linear(inner, up)
        out.view(-1, up.shape[0]).addmm_(inner.reshape(-1, up.shape[1]), up.t())
        return out

    def _gate_like(self, inner: Tensor, gate: Tensor) -> Tensor:
        if gate.ndim == 3 and inner.ndim == 2:  # one vector per sample, as a time embedding has
            if gate.shape[1] != 1:
                raise AdapterError(
                    f"A gate per token {tuple(gate.shape)} cannot steer a layer whose input has no tokens; "
                    f"give it (batch, 1, {gate.shape[2]})."
                )
            gate = gate[:, 0]
        elif gate.ndim == 3 and inner.ndim > 3:  # positions on several axes: one vector per sample fits
            if gate.shape[1] != 1:
                raise AdapterError(
                    f"A gate per token {tuple(gate.shape)} cannot steer an input of {inner.ndim - 2} axes of "
                    f"tokens; give it (batch, 1, {gate.shape[2]})."
                )
            gate = gate.reshape(gate.shape[0], *[1] * (inner.ndim - 2), gate.shape[2])
        return gate.to(inner.dtype)


class GatedConv2d(GatedLayer):
    """x (batch, in, h, w) -> (batch, out, h', w'), with `down` (R, in, kh, kw) and `up` (out, R, 1, 1).

    Stride, padding and dilation are the base's and belong to `down`.
    """

    def _inner(self, x: Tensor, down: Tensor) -> Tensor:
        base = cast(nn.Conv2d, self.base)
        padding = base.padding
        if base.padding_mode != "zeros":
            around = base._reversed_padding_repeated_twice  # pyright: ignore[reportPrivateUsage]
            x, padding = F.pad(x, around, mode=base.padding_mode), 0
        return F.conv2d(x, down, None, base.stride, padding, base.dilation)

    def _outer(self, inner: Tensor, up: Tensor) -> Tensor:
        return F.conv2d(inner, up)

    def _accumulate(self, out: Tensor, inner: Tensor, up: Tensor) -> Tensor:
        return out.add_(F.conv2d(inner, up))

    def _gate_like(self, inner: Tensor, gate: Tensor) -> Tensor:
        if gate.ndim == 1:
            return gate.to(inner.dtype)[:, None, None]
        height, width = (1, 1) if gate.shape[1] == 1 else (inner.shape[2], inner.shape[3])
        if gate.shape[1] != height * width:
            raise AdapterError(
                f"A gate of {gate.shape[1]} tokens does not fit a grid of {height} x {width} positions; "
                f"give it (batch, {height * width}, {gate.shape[2]})."
            )
        return gate.to(inner.dtype).transpose(1, 2).unflatten(2, (height, width))


PLAIN_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


# Asked once: torch.compile of torch 2.11 cannot follow the question into a call, and breaks its graph there.
_CAN_AUTOCAST = frozenset(
    kind
    for kind in ("cpu", "cuda", "mps", "xpu", "hpu", "mtia", "maia")
    if torch.amp.is_autocast_available(kind)
)


def factor_shapes(module: nn.Module, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of `down` and `up` of an update of this module.

    Raises:
        AdapterError: the module can carry no low-rank update.
    """
    if not can_carry(module):
        raise AdapterError(
            f"{type(module).__name__} cannot carry an adapter; Linear and ungrouped Conv2d can."
        )
    if isinstance(module, nn.Linear):
        return (rank, module.in_features), (module.out_features, rank)
    conv = cast(nn.Conv2d, module)
    kernel = cast("tuple[int, int]", conv.kernel_size)
    return (rank, conv.in_channels, *kernel), (conv.out_channels, rank, 1, 1)


def can_carry(module: nn.Module) -> bool:
    """Whether the module can carry a low-rank update: its owner must call it, not read its weight."""
    if isinstance(module, nn.Linear):
        return not isinstance(module, NonDynamicallyQuantizableLinear)
    return isinstance(module, nn.Conv2d) and module.groups == 1


def gated(base: nn.Module) -> GatedLayer:
    """The gated layer for this module, with no resident yet: it changes no bit."""
    return GatedLinear(base) if isinstance(base, nn.Linear) else GatedConv2d(base)


def _product_dtype(x: Tensor, factor: Tensor) -> torch.dtype:
    """The dtype to compute in: autocast's where it is on, otherwise the factors' own.

    Factors are cast here and not by autocast, which casts a Parameter once for as long as its outermost block
    lasts: a block around several optimiser steps would then train with the factors of the first.
    """
    kind = x.device.type
    if kind in _CAN_AUTOCAST and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return factor.dtype
