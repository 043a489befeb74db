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
)
from .frozen import Frozen
from .layers import GatedLayer, Trainable, factor_shapes
from .mixing import Mixing
from .residents import Resident, fit_adapter, refuse_shared
from .slots import Restacked, Slot, wrap
from .targets import select_targets
from .tree import Tree


class AdapterBank(Mixing):
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
        super().__init__(components)
        self._trainable: str | None = None
        self._trained: list[Slot] = []  # where the trainable lives, in the order of its targets
        self._frozen = Frozen()  # what to thaw when it leaves

    # ---- who is here -----------------------------------------------------------------------------------

    @property
    def trainable(self) -> str | None:
        """The name of the adapter being trained, if there is one."""
        return self._trainable

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

    # ---- inside ----------------------------------------------------------------------------------------

    def _tree(self) -> Tree:
        """The model as it is now.

        Raises:
            AdapterError: another bank's adapters are on it.
        """
        tree = Tree.of(self._components)
        tree.refuse_other_banks(self._slots)
        return tree

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
        self._mix = self._mix.without(name)
        self._patches.remove(name)
        for slot in list(self._slots.values()):
            left = slot.residents.pop(name, None)
            if not slot.residents:
                slot.unwrap()
                del self._slots[slot.layer]
            elif left is not None and left.update is None:
                slot.layer.set_trainable(None)
        Restacked.of(self._slots.values(), self._mix).move_in()
        self._gates.lay_out(self._slots.values(), self._mix)
        self._confine()
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
