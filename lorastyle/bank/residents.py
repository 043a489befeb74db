"""Does an adapter fit this model? Every module and shape is checked before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from lorastyle.adapters import Adapter, LowRank, Update
from lorastyle.errors import AdapterError, BaseMismatchError, near_miss

from .fuse import replaceable
from .layers import GatedLayer, factor_shapes
from .targets import adaptable_modules
from .tree import Tree

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, eq=False)
class Resident:
    """One adapter's place at one module, or at the gated layer around it. `update` is None for the adapter
    being trained: its layer holds it.
    """

    component: str
    path: str
    module: nn.Module
    update: LowRank | None


@dataclass(frozen=True, eq=False)
class DenseResident:
    """One adapter's place at one module that is changed in its weight itself."""

    component: str
    path: str
    module: nn.Module
    update: Update


def check_components(components: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The components as they are, or under what torch.compile made of them.

    Raises:
        AdapterError: none, an unknown one, one that is no module, or one with another bank's adapters on it.
    """
    if not components:
        raise AdapterError(f"No component to attach to; give at least one of {', '.join(COMPONENTS)}.")
    for name, model in components.items():
        if name not in COMPONENTS:
            hint = near_miss(name, COMPONENTS)
            raise AdapterError(f"Unknown component {name!r}; allowed are {', '.join(COMPONENTS)}.{hint}")
        if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise AdapterError(f"Component {name!r} is a {type(model).__name__}, not a torch module.")
    Tree.of(components).refuse_other_banks()
    return {name: cast(nn.Module, getattr(model, "_orig_mod", model)) for name, model in components.items()}


def fit_adapter(
    adapter: Adapter, components: Mapping[str, nn.Module], tree: Tree
) -> tuple[list[Resident], list[DenseResident]]:
    """The adapter's updates, each in the shape that its module wants: those of low rank, and the others.

    A 1x1 Conv2d and a Linear hold the same numbers, and files write either for the same module: both are
    accepted.

    Raises:
        BaseMismatchError: components, modules or shapes that the model does not have (the first few).
        AdapterError: the adapter changes nothing, or changes one shared module twice; or it changes weights
            themselves, and those of this model cannot be replaced.
    """
    absent = [name for name in {**adapter.components, **adapter.dense} if name not in components]
    if absent:
        raise BaseMismatchError(
            f"Adapter {adapter.name!r} changes {', '.join(absent)}, "
            f"and there is only {', '.join(components)} here."
        )
    residents: list[Resident] = []
    problems: list[str] = []
    for component, updates in adapter.components.items():
        model, modules = components[component], tree.modules[component]
        for path, update in updates.items():
            module = modules.get(path)
            if module is None:
                hint = "" if problems else near_miss(path, tuple(adaptable_modules(model)))
                problems.append(f"{component}.{path} does not exist.{hint}")
                continue
            base = module.base if isinstance(module, GatedLayer) else module
            try:
                fitted = _reshaped(update, base)
            except AdapterError as error:
                problems.append(f"{component}.{path}: {error}")
                continue
            residents.append(Resident(component, path, module, fitted))
    dense = _fit_dense(adapter, tree, problems)
    if problems:
        raise BaseMismatchError(_mismatch(adapter, problems))
    if not residents and not dense:
        raise AdapterError(f"Adapter {adapter.name!r} changes no module.")
    refuse_shared(adapter.name, residents)
    refuse_shared(adapter.name, dense)
    return residents, dense


def _fit_dense(adapter: Adapter, tree: Tree, problems: list[str]) -> list[DenseResident]:
    found: list[DenseResident] = []
    for component, path, update in adapter.dense_updates():
        place = f"{component}.{path}"
        module = tree.modules[component].get(path)
        if module is None:
            problems.append(f"{place} does not exist.")
            continue
        module = module.base if isinstance(module, GatedLayer) else module
        if why := replaceable(module):
            raise AdapterError(
                f"Adapter {adapter.name!r} is a {update.algorithm}, which is added to the weights, and it "
                f"cannot be added to {place}: {why} Load the base whole, in 16 or 32 bits."
            )
        weight = cast(Tensor, module.weight)
        if not update.fits(tuple(weight.shape)):
            problems.append(f"{place}: a {update.algorithm} of another size than {tuple(weight.shape)}")
        elif update.bias is not None and getattr(module, "bias", None) is None:
            problems.append(f"{place} has no bias, and the adapter changes one")
        elif update.bias is not None and cast(Tensor, module.bias).shape != update.bias.shape:
            problems.append(f"{place}: a bias of {update.bias.numel()}, where the model's is another size")
        else:
            found.append(DenseResident(component, path, module, update))
    return found


def refuse_shared(name: str, residents: Sequence[Resident | DenseResident]) -> None:
    """An adapter lives at a module once, however many paths lead there.

    Raises:
        AdapterError: two residents are at the same module.
    """
    seen: dict[int, str] = {}
    for resident in residents:
        place = f"{resident.component}.{resident.path}"
        if other := seen.get(id(resident.module)):
            raise AdapterError(
                f"Adapter {name!r} changes one shared module twice, as {other} and as {place}."
            )
        seen[id(resident.module)] = place


def _reshaped(update: LowRank, module: nn.Module) -> LowRank:
    down, up = factor_shapes(module, update.rank)
    have_down, have_up = tuple(update.down.shape), tuple(update.up.shape)
    if (have_down, have_up) == (down, up):
        return update
    same_but_1x1 = _flat(have_down) == _flat(down) and _flat(have_up) == _flat(up)
    if not same_but_1x1:
        raise BaseMismatchError(f"down {have_down} and up {have_up}, where the model needs {down} and {up}")
    return LowRank(update.down.reshape(down), update.up.reshape(up), update.alpha)


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if shape[2:] == (1, 1) else shape


def _mismatch(adapter: Adapter, problems: list[str]) -> str:
    total = sum(len(u) for u in (*adapter.components.values(), *adapter.dense.values()))
    made_for = f" It was made for {adapter.family}." if adapter.family else ""
    more = f"\n  and {len(problems) - 4} more" if len(problems) > 4 else ""
    listed = "".join(f"\n  {problem}" for problem in problems[:4])
    return (
        f"Adapter {adapter.name!r} does not fit this model: {len(problems)} of its {total} modules.{made_for}"
        f"{listed}{more}"
    )
