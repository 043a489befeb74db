"""AdapterBank: many adapters resident on one frozen model."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from lorastyle.adapters import Adapter, LowRank
from lorastyle.errors import AdapterError

from .checks import (
    component_of,
    finite_scale,
    free_name,
    known_name,
    probability,
    trained_factor,
    with_scales,
)
from .frozen import Frozen
from .fuse import check_fusable, fused_weight
from .gates import Gates
from .layers import GatedLayer, Trainable, factor_shapes
from .mix import Mix, Scales
from .patches import Patches
from .residents import Resident, check_components, fit_adapter, refuse_shared
from .slots import Restacked, Slot, wrap
from .targets import select_targets
from .tree import Tree


class AdapterBank:
    """Adapters on the modules of a live model, mixed by one gate vector per layer.

    A module is wrapped when the first adapter arrives at it and unwrapped when the last one leaves. The
    wrapped module is never copied or changed: `detach()` puts the same objects back where they were. A module
    without an adapter whose scale is not zero computes what it always did, to the bit.

    While adapters are attached, `model.state_dict()` has the base's keys only, and the base's tensors but for
    weights that updates other than low rank are added to; `export` gives the adapters.
    `model.named_parameters()` shows the wrapped modules one level deeper, under `.base`.

    Not for use from several threads at once: the model is shared state.

    Args:
        components: the models, by "unet", "text_encoder" and "text_encoder_2" (any of them).

    Raises:
        AdapterError: an unknown component, one that is no module, or one with another bank's adapters on it.
    """

    def __init__(self, components: Mapping[str, nn.Module]) -> None:
        self._components = check_components(components)
        self._adapters: dict[str, Adapter] = {}
        self._mix = Mix({})
        self._gates = Gates()
        self._slots: dict[GatedLayer, Slot] = {}
        self._trainable: str | None = None
        self._trained: list[Slot] = []  # where the trainable lives, in the order of its targets
        self._frozen = Frozen()  # what to thaw when it leaves
        self._patches = Patches()  # what is not low rank
        self._disabled = 0
        self._fused = False

    # ---- who is here -----------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters, in order of arrival."""
        return tuple(self._mix.scales)

    @property
    def scales(self) -> dict[str, dict[str, float]]:
        """A copy: {adapter: {component: scale}}, for the components that the adapter changes."""
        return {name: dict(by_component) for name, by_component in self._mix.scales.items()}

    @property
    def trainable(self) -> str | None:
        """The name of the adapter being trained, if there is one."""
        return self._trainable

    @property
    def is_fused(self) -> bool:
        return self._fused

    def __repr__(self) -> str:
        listed = ", ".join(f"{name}: {scales}" for name, scales in self.scales.items())
        return f"AdapterBank({', '.join(self._components)}; {listed or 'no adapters'})"

    # ---- coming and going ------------------------------------------------------------------------------

    def add(self, adapter: Adapter, *, scale: float = 1.0) -> None:
        """Make an adapter resident. Everything is checked before anything changes.

        What of it is not low rank (LoKr, DoRA, norms, ...) is added to the weights themselves, at once and
        whenever scales change; the originals are kept and put back.

        Args:
            scale: the user's multiplier, for every component; 0 is off, 1 is as trained, negative is the
                opposite.

        Raises:
            BaseMismatchError: modules or shapes that this model does not have.
            AdapterError: the name is taken, the scale is not finite, or the bank is fused.
        """
        self._check_can_change(f"add {adapter.name!r}")
        tree = self._tree()
        free_name(adapter.name, self.names)
        scale = finite_scale(adapter.name, scale)
        residents, dense = fit_adapter(adapter, self._components, tree)
        with self._or_leave(adapter.name):
            self._adapters[adapter.name] = adapter
            self._settle(adapter.name, residents, tree)
            self._patches.add(adapter.name, dense)
            components = dict.fromkeys((place.component for place in (*residents, *dense)), scale)
            self._arrive(adapter.name, components)

    def create(
        self,
        name: str,
        targets: Mapping[str, Sequence[str]],
        *,
        rank: int,
        alpha: float | None = None,
        rslora: bool = False,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Make one fresh adapter resident, to be trained; everything else in the components is frozen.

        It changes no bit of the output until its first optimiser step. Its factors are float32 Parameters
        whatever the base's dtype. `remove` and `detach` give the base's parameters `requires_grad` back.

        Args:
            targets: {component: patterns}, as `select_targets` takes them.
            alpha: None means rank. The update's factor is alpha / rank, or alpha / sqrt(rank) with `rslora`
                (Kalajdzievski 2023, arXiv:2312.03732).
            dropout: probability of dropping an input of `down`, in training mode only.
            seed: of the CPU generator that draws `down`; the same seed gives the same bits on every device.

        Raises:
            TargetError: a pattern matches no module.
            AdapterError: the name is taken, a number is out of range, or another adapter is being trained.
        """
        self._check_can_change(f"create {name!r}")
        tree = self._tree()
        free_name(name, self.names)
        if self._trainable is not None:
            raise AdapterError(
                f"{self._trainable!r} is being trained already, and a bank trains one adapter at a time. "
                f"Remove it before creating {name!r}."
            )
        scale = trained_factor(rank, alpha, rslora=rslora)
        dropout = probability("dropout", dropout)
        if not targets:
            raise AdapterError(
                f"No targets for {name!r}; give patterns for one of {', '.join(self._components)}."
            )
        paths = {
            c: select_targets(component_of(c, self._components), patterns, c)
            for c, patterns in targets.items()
        }
        residents = [
            Resident(c, path, tree.modules[c][path], None) for c, chosen in paths.items() for path in chosen
        ]
        refuse_shared(name, residents)
        with self._or_leave(name), torch.inference_mode(False):
            self._trainable = name
            with self._patches.lifted():
                self._frozen.freeze(self._components.values())
            self._trained = self._settle(name, residents, tree)
            generator = torch.Generator().manual_seed(seed)
            for slot in self._trained:
                down, up = factor_shapes(slot.layer.base, rank)
                fresh = Trainable(
                    down, up, scale=scale, dropout=dropout, generator=generator, device=slot.layer.device
                )
                slot.layer.set_trainable(fresh)
            self._arrive(name, dict.fromkeys(paths, 1.0))

    def remove(self, name: str) -> None:
        """Send an adapter away. Modules that no other adapter uses are the base's own again.

        Raises:
            AdapterError: no adapter has this name, or the bank is fused.
        """
        self._check_can_change(f"remove {name!r}")
        known_name(name, self.names)
        self._leave(name)

    def detach(self) -> None:
        """Send every adapter away: the model has the same module objects as before, with the same bits."""
        self.restore()
        for name in self.names:
            self.remove(name)

    def __enter__(self) -> AdapterBank:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    # ---- scales ----------------------------------------------------------------------------------------

    def set_scales(self, scales: Mapping[str, float | Mapping[str, float]]) -> None:
        """Set the scales of the adapters named here, all or none; the others keep theirs.

        Args:
            scales: {adapter: scale}, or {adapter: {component: scale}}. A component that the adapter does not
                change is allowed, so that one setting can serve many adapters.

        Raises:
            AdapterError: an unknown adapter or component, a scale that is not finite, or the bank is fused.
        """
        self._check_can_change("set scales")
        self._apply(replace(self._mix, scales=with_scales(self._mix.scales, scales, self._components)))

    @contextmanager
    def scaled(self, scales: Mapping[str, float | Mapping[str, float]]) -> Generator[None]:
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

    # ---- training --------------------------------------------------------------------------------------

    def parameters(self, name: str, component: str | None = None) -> list[nn.Parameter]:
        """The factors of the adapter being trained: down and up of each module, in the model's order.

        Args:
            component: those of one component only, for a learning rate of its own. A component that the
                adapter does not change has none: [].

        Raises:
            AdapterError: no adapter has this name, it is not the one being trained, or an unknown component.
        """
        known_name(name, self.names)
        if name != self._trainable:
            trained = f"only {self._trainable!r} is trained" if self._trainable else "none is being trained"
            raise AdapterError(f"{name!r} is frozen and has no parameters; {trained}.")
        if component is not None:
            component_of(component, self._components)
        return [
            factor
            for slot in self._trained
            if component in (None, slot.residents[name].component)
            for factor in (slot.trainable.down, slot.trainable.up)
        ]

    def export(self, name: str, metadata: Mapping[str, str] = {}) -> Adapter:
        """The adapter as data. One in training is a float32 copy on the CPU, as it is now.

        Raises:
            AdapterError: no adapter has this name.
        """
        known_name(name, self.names)
        if name != self._trainable:
            adapter = self._adapters[name]
            return replace(adapter, name=name, metadata={**adapter.metadata, **metadata})
        components: dict[str, dict[str, LowRank]] = {}
        for slot in self._trained:
            resident = slot.residents[name]
            components.setdefault(resident.component, {})[resident.path] = slot.trainable.copy()
        return Adapter(name, components, dict(metadata))

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
        scales = _constant(self._mix, "fuse")
        active = [(slot, updates) for slot in self._slots.values() if (updates := slot.updates(scales))]
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

    def _tree(self) -> Tree:
        """The model as it is now.

        Raises:
            AdapterError: another bank's adapters are on it.
        """
        tree = Tree.of(self._components)
        tree.refuse_other_banks(self._slots)
        return tree

    def _apply(self, mix: Mix) -> None:
        """Make this the setting, or, where that fails, leave everything as it is."""
        changed = mix.used_columns != self._mix.used_columns
        restacked = Restacked.of(self._slots.values() if changed else (), mix)
        if self._patches:
            self._patches.refresh(_constant(mix, "add to the weights"))
        self._mix = mix
        restacked.move_in()
        if changed:
            self._gates.lay_out(self._slots.values())
        self._gates.write(mix)

    def _arrive(self, name: str, scales: dict[str, float]) -> None:
        """Open the gates of an adapter that has moved in."""
        self._apply(replace(self._mix, scales={**self._mix.scales, name: scales}))

    @contextmanager
    def _or_leave(self, name: str) -> Generator[None]:
        """Should moving in fail half way, for want of memory, nothing of the adapter stays."""
        try:
            yield
        except BaseException:
            self._leave(name)
            raise

    def _leave(self, name: str) -> None:
        if name == self._trainable:
            self._trainable = None
            self._trained = []
            self._frozen.thaw()
        self._adapters.pop(name, None)
        self._mix = replace(self._mix, scales={n: s for n, s in self._mix.scales.items() if n != name})
        self._patches.remove(name)
        for slot in list(self._slots.values()):
            left = slot.residents.pop(name, None)
            slot.weights.pop(name, None)
            if not slot.residents:
                slot.unwrap()
                del self._slots[slot.layer]
            elif left is not None and left.update is None:
                slot.layer.set_trainable(None)
        Restacked.of(self._slots.values(), self._mix).move_in()
        self._gates.lay_out(self._slots.values())
        self._gates.write(self._mix)

    def _settle(self, name: str, residents: Sequence[Resident], tree: Tree) -> list[Slot]:
        """Wrap what is not wrapped yet and move the residents in, behind closed gates."""
        fresh = [r.module for r in residents if not isinstance(r.module, GatedLayer)]
        slots = wrap(fresh, tree.places)
        for slot in slots.values():
            slot.layer.bypass(self._disabled > 0)
            self._slots[slot.layer] = slot
        settled = [
            self._slots[r.module] if isinstance(r.module, GatedLayer) else slots[id(r.module)]
            for r in residents
        ]
        for slot, resident in zip(settled, residents, strict=True):
            slot.residents[name] = resident
        return settled

    def _bypass(self, step: int) -> None:
        self._disabled += step
        for slot in self._slots.values():
            slot.layer.bypass(self._disabled > 0)

    def _check_can_change(self, what: str) -> None:
        if self._fused:
            raise AdapterError(f"Cannot {what} while the bank is fused; call restore() first.")


def _constant(mix: Mix, what: str) -> Scales:
    """The one strength of each adapter and component.

    Raises:
        AdapterError: it differs between the samples of the batch, which share their weights.
    """
    try:
        return mix.constant()
    except ValueError as error:
        raise AdapterError(
            f"Cannot {what}: the scale of {str(error)!r} differs between the pictures of the batch, which "
            "share the weights. Draw them one by one."
        ) from error
