"""Does an adapter fit this model? Every module and shape is checked before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from torch import nn

from lorastyle.adapters import Adapter, LowRank
from lorastyle.errors import AdapterError, BaseMismatchError, near_miss

from .layers import GatedLayer, factor_shapes
from .targets import adaptable_modules

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, eq=False)
class Resident:
    """One adapter's place at one module. `update` is None for the adapter being trained: its layer holds
    it.
    """

    component: str
    path: str
    update: LowRank | None


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
        taken = next((path for path, part in model.named_modules() if isinstance(part, GatedLayer)), None)
        if taken is not None:
            raise AdapterError(
                f"{name} has another bank's adapters on it (at {taken}). Use that bank, or detach() it first."
            )
    return {name: cast(nn.Module, getattr(model, "_orig_mod", model)) for name, model in components.items()}


def fit_adapter(adapter: Adapter, components: Mapping[str, nn.Module]) -> list[Resident]:
    """The adapter's updates, each in the shape that its module wants.

    A 1x1 Conv2d and a Linear hold the same numbers, and files write either for the same module: both are
    accepted.

    Raises:
        BaseMismatchError: components, modules or shapes that the model does not have (the first few).
        AdapterError: the adapter changes nothing, or changes one shared module twice.
    """
    absent = [name for name in adapter.components if name not in components]
    if absent:
        raise BaseMismatchError(
            f"Adapter {adapter.name!r} changes {', '.join(absent)}, "
            f"and there is only {', '.join(components)} here."
        )
    residents: list[Resident] = []
    problems: list[str] = []
    seen: dict[int, str] = {}
    for component, updates in adapter.components.items():
        model = components[component]
        names = tuple(adaptable_modules(model)) if updates else ()
        for path, update in updates.items():
            place = f"{component}.{path}"
            try:
                module = model.get_submodule(path)
            except AttributeError:
                problems.append(f"{place} does not exist.{near_miss(path, names) if not problems else ''}")
                continue
            base = module.base if isinstance(module, GatedLayer) else module
            try:
                fitted = _reshaped(update, base)
            except AdapterError as error:
                problems.append(f"{place}: {error}")
                continue
            if id(base) in seen:
                raise AdapterError(
                    f"Adapter {adapter.name!r} changes one shared module twice, "
                    f"as {seen[id(base)]} and as {place}."
                )
            seen[id(base)] = place
            residents.append(Resident(component, path, fitted))
    if problems:
        raise BaseMismatchError(_mismatch(adapter, problems))
    if not residents:
        raise AdapterError(f"Adapter {adapter.name!r} changes no module.")
    return residents


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
    total = sum(len(updates) for updates in adapter.components.values())
    made_for = f" It was made for {adapter.family}." if adapter.family else ""
    more = f"\n  and {len(problems) - 4} more" if len(problems) > 4 else ""
    listed = "".join(f"\n  {problem}" for problem in problems[:4])
    return (
        f"Adapter {adapter.name!r} does not fit this model: {len(problems)} of its {total} modules.{made_for}"
        f"{listed}{more}"
    )
