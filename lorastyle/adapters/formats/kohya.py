"""Writing kohya's names, the ones that every tool reads: `lora_unet_down_blocks_0_..._to_q.lora_down.weight`.

A module's dotted path is flattened with `_` and gets a prefix for its component. SD 1.x and 2.x use
`lora_te_` for the text encoder; bases with two text encoders use `lora_te1_` and `lora_te2_`, and SDXL's UNet
has Stability's names inside (`lora_unet_input_blocks_4_1_...`). An `alpha` beside the factors scales them by
alpha / rank; a file without one means alpha = rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from lorastyle.errors import AdapterError

from .embedded import write_words
from .naming import with_text_model
from .sgm import sgm_names

if TYPE_CHECKING:
    from torch import Tensor

    from ..adapter import Adapter
    from ..lowrank import LowRank


def _flat(prefix: str, path: str) -> str:
    return prefix + path.replace(".", "_")


def module_names(component: str, paths: Collection[str], *, sdxl: bool) -> dict[str, str]:
    """{path: its name in a file}. SDXL's UNet gets Stability's names, where all of its modules have one.

    Raises:
        AdapterError: two modules whose names are the same.
    """
    if component != "unet":
        prefix = "lora_te2_" if component == "text_encoder_2" else "lora_te1_" if sdxl else "lora_te_"
        names = {path: _flat(prefix, with_text_model(path)) for path in paths}
    else:
        stability = {path: sgm_names(path) for path in paths}
        use = sdxl and all(stability.values())
        names = {path: _flat("lora_unet_", stability[path][0] if use else path) for path in paths}
    twice = next((name for name, n in Counter(names.values()).items() if n > 1), None)
    if twice:
        raise AdapterError(f"Two modules of {component} flatten to {twice}; kohya names cannot hold both.")
    return names


def write(adapter: Adapter) -> dict[str, Tensor]:
    """The tensors of a kohya file, factors and alphas as they are; alphas 0-d float32.

    Readers agree about adapters that have been through `with_constant_alpha`.

    Raises:
        AdapterError: two modules whose flattened names are the same.
    """
    import torch

    tensors: dict[str, Tensor] = {}
    sdxl = adapter.family == "sdxl" or any(
        p.get("text_encoder_2") for p in (adapter.components, adapter.dense)
    )
    for component in dict.fromkeys((*adapter.components, *adapter.dense)):
        low_rank, dense = adapter.components.get(component, {}), adapter.dense.get(component, {})
        names = module_names(component, tuple(dict.fromkeys((*low_rank, *dense))), sdxl=sdxl)
        for path, update in low_rank.items():
            tensors[f"{names[path]}.alpha"] = torch.tensor(update.alpha, dtype=torch.float32)
            tensors[f"{names[path]}.lora_down.weight"] = update.down
            tensors[f"{names[path]}.lora_up.weight"] = update.up
        for path, update in dense.items():
            tensors |= {f"{names[path]}.{end}": tensor for end, tensor in update.tensors().items()}
    return {**tensors, **write_words(adapter.words)}


def with_constant_alpha(adapter: Adapter) -> Adapter:
    """The same updates with one alpha for each component, those inside a DoRA as well."""
    from ..lowrank import LowRank
    from ..updates import DoRA, Update

    components: dict[str, dict[str, LowRank]] = {}
    dense: dict[str, dict[str, Update]] = {}
    for component in dict.fromkeys((*adapter.components, *adapter.dense)):
        low_rank = adapter.components.get(component, {})
        others = adapter.dense.get(component, {})
        inside = {p: u.inside for p, u in others.items() if isinstance(u, DoRA)}
        folded = constant_alpha({**low_rank, **{p: u for p, u in inside.items() if isinstance(u, LowRank)}})
        components[component] = {path: folded[path] for path in low_rank}
        dense[component] = {
            path: replace(update, inside=folded[path])
            if isinstance(update, DoRA) and isinstance(update.inside, LowRank)
            else update
            for path, update in others.items()
        }
    return replace(adapter, components=components, dense=dense)


def constant_alpha(updates: Mapping[str, LowRank]) -> dict[str, LowRank]:
    """The same deltas with one alpha for all: the commonest, and the rest of the scale moved into `up`.

    alpha / rank * up @ down = c / rank * (up * alpha / c) @ down. Readers disagree about files whose alpha
    differs from module to module (diffusers takes one for all), and agree about these.
    """
    from ..lowrank import LowRank

    # Zero and negative alphas never become the constant (some readers take 0 to mean "alpha = rank"), nor do
    # those that float32 does not hold.
    usable = Counter(u.alpha for u in updates.values() if 1e-30 < u.alpha < 1e30)
    alpha = max(usable, key=lambda a: (usable[a], a)) if usable else 1.0
    return {
        path: u if u.alpha == alpha else LowRank(u.down, (u.up.double() * (u.alpha / alpha)).float(), alpha)
        for path, u in updates.items()
    }
