"""What the adapters of a bank do now: scales, block weights, rows of a batch, steps; and fused mode."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import torch
from torch import Tensor, nn

from lorastyle.adapters import Adapter, BlockWeights
from lorastyle.errors import AdapterError

from .checks import check_blocks, check_confinable, finite_scale, known_name, with_scales
from .cross_attention import reading_apart
from .fuse import check_fusable, fused_weight, replaceable
from .gates import Gates
from .layers import GatedLayer
from .mix import Choices, Mix
from .patches import Patches
from .regions import Regions
from .residents import check_components
from .slots import Restacked, Slot

Wanted = Mapping[str, "float | Mapping[str, float]"]
"""{adapter: scale}, or {adapter: {component: scale}}"""


class Mixing:
    """The half of an `AdapterBank` that sets how strongly the adapters act.

    A strength is a product: the scale of the adapter on a component, its weight in the module's block, and
    its factor at the present step. While it stays away from zero, changing it writes one tensor.
    """

    def __init__(self, components: Mapping[str, nn.Module]) -> None:
        self._components = check_components(components)
        self._adapters: dict[str, Adapter] = {}
        self._mix = Mix()
        self._arrivals: dict[str, int] = {}  # of each adapter, as the how manieth it came
        self._counted = count()
        self._gates = Gates()
        self._slots: dict[GatedLayer, Slot] = {}
        self._patches = Patches()  # what is not low rank
        self._regions: Regions | None = None
        self._disabled = 0
        self._fused = False

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters, in order of arrival."""
        return tuple(self._mix.scales)

    @property
    def scales(self) -> dict[str, dict[str, float]]:
        """A copy: {adapter: {component: scale}}, for the components that the adapter changes."""
        return {name: dict(by_component) for name, by_component in self._mix.scales.items()}

    @property
    def is_fused(self) -> bool:
        return self._fused

    def setting_of(self, components: Iterable[str]) -> Hashable:
        """What the answers of these components depend on, beside what they are asked: while it compares
        equal, the same question has the same answer. None while an adapter is trained.
        """
        if len(self._adapters) < len(self.names):
            return None
        acting = [
            (
                self._arrivals[name],
                component,
                strengths,
                repr(self._mix.weights.get(name)),
                repr(self._mix.choices.get(name)),
            )
            for component in components
            for name, scales in self._mix.scales.items()
            if component in scales and any(strengths := self._mix.column(name, component))
        ]
        return tuple(acting), self._disabled > 0, self._fused

    # ---- scales ----------------------------------------------------------------------------------------

    def set_scales(self, scales: Wanted) -> None:
        """Set the scales of the adapters named here, all or none; the others keep theirs.

        Args:
            scales: {adapter: scale}, or {adapter: {component: scale}}. A component that the adapter does not
                change is allowed, so that one setting can serve many adapters.

        Raises:
            AdapterError: an unknown adapter or component, a scale that is not finite, the bank is fused, or
                each sample has scales of its own (inside `rows`).
        """
        self._check_can_change("set scales")
        if self._mix.rows:
            raise AdapterError(
                "Cannot set scales inside rows(), where each sample has its own; leave it first."
            )
        self._apply(replace(self._mix, scales=with_scales(self._mix.scales, scales, self._components)))

    @contextmanager
    def scaled(self, scales: Wanted) -> Generator[None]:
        """`set_scales` for the length of a `with` block; the former scales come back whatever happens."""
        before = self.scales
        self.set_scales(scales)
        try:
            yield
        finally:
            fused = self._fused
            self.restore()
            self.set_scales({name: former for name, former in before.items() if name in self.names})
            if fused:
                self.fuse()

    @contextmanager
    def rows(self, rows: Sequence[Wanted]) -> Generator[None]:
        """For the length of a `with` block, sample i of every batch is computed with the scales `rows[i]`.

        What a row does not name keeps its scale. A batch of another size fails in the layer; guidance doubles
        a batch, and wants the rows twice.

        Raises:
            AdapterError: as `set_scales`; no row; or an adapter that is not low rank, whose scale differs.
        """
        self._check_can_change("set rows")
        if not rows or self._mix.rows:
            raise AdapterError("rows() needs at least one row, and does not go inside another rows().")
        each = tuple(with_scales(self._mix.scales, row, self._components) for row in rows)
        self._apply(replace(self._mix, rows=each))
        try:
            yield
        finally:
            self._apply(replace(self._mix, rows=()))

    @property
    def block_weights(self) -> dict[str, BlockWeights]:
        """A copy: {adapter: its weights}, for those that have some."""
        return dict(self._mix.weights)

    def set_block_weights(self, weights: Mapping[str, BlockWeights | None]) -> None:
        """Weigh the blocks of the adapters named here, all or none; None is 1 everywhere.

        Raises:
            AdapterError: an unknown adapter, a path that none of its modules has, or the bank is fused.
        """
        self._check_can_change("set block weights")
        for name, blocks in weights.items():
            known_name(name, self.names)
            if blocks is not None:
                check_blocks(name, blocks, (r for s in self._slots.values() if (r := s.residents.get(name))))
        merged = {**self._mix.weights, **weights}
        kept = {name: blocks for name, blocks in merged.items() if blocks is not None}
        self._apply(replace(self._mix, weights=kept))

    def set_step_factors(self, factors: Mapping[str, float], choices: Choices | None = None) -> None:
        """Multiply the scales of the adapters named here, until the next call; 1 for the others.

        For schedules: an adapter whose factor is 0 costs nothing at that step, and nothing is stacked anew.

        Args:
            choices: factors of single modules, times the others: {adapter: {(component, path): factor}}. A
                module that the adapter does not change is allowed.

        Raises:
            AdapterError: an unknown adapter, a factor that is not finite, or the bank is fused.
        """
        self._check_can_change("set step factors")
        for name, factor in factors.items():
            known_name(name, self.names)
            finite_scale(f"{name} at this step", factor)
        for name, modules in (choices or {}).items():
            known_name(name, self.names)
            for (component, path), factor in modules.items():
                finite_scale(f"{name} at this step on {component} {path}", factor)
        self._apply(
            replace(
                self._mix, factors=dict(factors), choices={n: dict(m) for n, m in (choices or {}).items()}
            )
        )

    @contextmanager
    def confined(
        self, fields: Mapping[str, Tensor], readings: Sequence[Tensor], grid: tuple[int, int]
    ) -> Generator[Regions]:
        """For the length of a `with` block, these adapters act on the UNet in parts of the picture only.

        Everything that belongs to a place is multiplied by the adapter's field there. Words belong to none:
        they are read once by the adapters that are not confined, and once for each that is, and every place
        sees the reading of its own adapter. What an adapter does is so confined to its field in every layer;
        what the base then makes of it in its surroundings is the base's.

        Args:
            fields: {adapter: (height, width) in 0..1}, 1 where it acts. Soft edges are numbers between.
            readings: for each of them, the prompt embeddings (b, tokens, dim) as its part of the picture sees
                them. The UNet is called with those of the rest, in the same batch.
            grid: (height, width) of the latents that will be drawn.

        Yields:
            The regions, whose fields may be set anew between calls.

        Raises:
            AdapterError: an unknown adapter, one in training or that is not low rank, a field that is none,
                as many readings as there are fields, or the bank is fused, confined or inside `rows`.
        """
        self._check_can_change("confine adapters")
        if self._regions is not None or self._mix.rows:
            raise AdapterError("confined() does not go inside another one, nor inside rows().")
        for name in fields:
            known_name(name, self.names)
        check_confinable(fields, self._adapters)
        if len(readings) != len(fields) or "unet" not in self._components:
            raise AdapterError(f"{len(readings)} readings for {len(fields)} fields on a UNet; one each.")
        self._regions = Regions(fields, grid)
        try:
            self._confine()
            with reading_apart(self._components["unet"], self._regions, readings):
                yield self._regions
        finally:
            self._regions = None
            self._confine()

    @contextmanager
    def disabled(self) -> Generator[None]:
        """For the length of a `with` block, as if nothing were attached, to the bit."""
        fused = self._fused
        self.restore()
        self._bypass(+1)
        try:
            with self._patches.lifted():
                yield
        finally:
            self._bypass(-1)
            if fused and self._slots:
                self.fuse()

    # ---- fused mode ------------------------------------------------------------------------------------

    def fuse(self) -> None:
        """Add every update to the weights, at the present scales, until `restore()`.

        The original tensors are kept, so memory grows by the weights that are fused. Adapters and scales
        cannot change meanwhile.

        Raises:
            AdapterError: a weight is quantised, or an adapter is in training mode, or the bank is disabled.
                Nothing is fused then.
        """
        if self._fused:
            return
        if self._disabled:
            raise AdapterError("Cannot fuse inside disabled(), where the base draws alone; leave it first.")
        if self._regions is not None:
            raise AdapterError("Cannot fuse inside confined(): weights are the same at every place.")
        active = [(slot, found) for slot in self._slots.values() if (found := slot.updates(self._mix))]
        for slot, _ in active:
            check_fusable(slot.layer, str(slot))
        self._fused = True
        try:
            # An inference tensor in a weight's place could never be used where gradients are wanted.
            with torch.inference_mode(False):
                for slot, updates in active:
                    base = slot.layer.base
                    dense = self._patches.dense(base)
                    slot.layer.fuse(fused_weight(self._patches.original(base), updates, dense))
        except BaseException:
            self.restore()
            raise

    def fused_size(self, *, rounded: bool = False) -> int | None:
        """Bytes of the weights that `fuse` would make at the present scales, each in float32 as it is now.
        None where there is one that it would refuse, or whose bits would be rounded.

        Args:
            rounded: weights of fewer bits count as well; their sums are rounded to their type.
        """
        if self._disabled or self._regions is not None:
            return None
        active = [slot for slot in self._slots.values() if slot.updates(self._mix)]
        for slot in active:
            if replaceable(slot.layer.base) or (slot.layer.dtype is not torch.float32 and not rounded):
                return None
            if slot.layer.trainable is not None:
                return None
        return sum(self._patches.original(slot.layer.base).nbytes for slot in active)

    def restore(self) -> None:
        """Put the original weights back: the same tensor objects, the same bits."""
        for slot in self._slots.values():
            slot.layer.restore()
        self._fused = False

    @contextmanager
    def fused(self) -> Generator[None]:
        """`fuse()` for the length of a `with` block, and `restore()` whatever happens in it."""
        already = self._fused
        self.fuse()
        try:
            yield
        finally:
            if not already:
                self.restore()

    # ---- inside ----------------------------------------------------------------------------------------

    def _apply(self, mix: Mix) -> None:
        """Make this the setting, or, where that fails, leave everything as it is."""
        same = mix.stacks_as(self._mix)
        restacked = Restacked.of(() if same else self._slots.values(), mix)
        self._patches.refresh(mix)
        self._mix = mix
        restacked.move_in()
        if not same:
            self._gates.lay_out(self._slots.values(), mix)
            self._confine()
        self._gates.write(mix)

    def _arrive(self, name: str, scales: dict[str, float]) -> None:
        """Open the gates of an adapter that has moved in."""
        self._arrivals[name] = next(self._counted)
        self._apply(self._mix.having(name, scales))

    def _confine(self) -> None:
        for slot in self._slots.values():
            slot.confine(self._regions)

    def _bypass(self, step: int) -> None:
        self._disabled += step
        for slot in self._slots.values():
            slot.layer.bypass(self._disabled > 0)

    def _check_can_change(self, what: str) -> None:
        if self._fused:
            raise AdapterError(f"Cannot {what} while the bank is fused; call restore() first.")
