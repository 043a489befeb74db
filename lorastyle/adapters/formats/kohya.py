"""kohya's names, the ones that every tool reads: `lora_unet_down_blocks_0_..._to_q.lora_down.weight`.

A module's dotted path is flattened with `_` and gets a prefix for its component. SD 1.x and 2.x use
`lora_te_` for the text encoder; bases with two text encoders use `lora_te1_` and `lora_te2_`. An `alpha`
beside the factors scales them by alpha / rank; a file without one means alpha = rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lorastyle.errors import AdapterError

from .naming import Format, Role, TensorName, with_text_model

if TYPE_CHECKING:
    from torch import Tensor

    from ..adapter import Adapter
    from ..lowrank import LowRank

_PREFIXES = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
_ROLES: Mapping[str, Role] = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    "alpha": "alpha",
}
_ALGORITHMS = (
    ("dora_scale", "DoRA"),
    ("hada_", "LoHa"),
    ("lokr_", "LoKr"),
    ("oft_", "OFT"),
    ("diff", "full differences"),
    ("w_norm", "full differences"),
    ("b_norm", "full differences"),
    ("on_input", "IA3"),
    ("weight", "IA3"),
    ("a1", "GLoRA"),
    ("a2", "GLoRA"),
    ("b1", "GLoRA"),
    ("b2", "GLoRA"),
)


def _parse(key: str) -> TensorName | None:
    module, _, suffix = key.partition(".")
    component = next((c for prefix, c in _PREFIXES.items() if module.startswith(prefix)), None)
    if component is None or not suffix:
        return None
    if suffix in _ROLES:
        return TensorName(component, module, _ROLES[suffix])
    algorithm = next((name for start, name in _ALGORITHMS if suffix.startswith(start)), suffix)
    return TensorName(component, module, "unsupported", algorithm)


def _spellings(component: str, path: str) -> tuple[str, ...]:
    if component == "unet":
        return (_flat("lora_unet_", path),)
    if component == "text_encoder":
        return (_flat("lora_te_", path), _flat("lora_te1_", path))
    return (_flat("lora_te2_", path),)


def _flat(prefix: str, path: str) -> str:
    return prefix + (path if prefix == "lora_unet_" else with_text_model(path)).replace(".", "_")


def write(adapter: Adapter) -> dict[str, Tensor]:
    """The tensors of a kohya file, factors as they are but for the constant-alpha rule; alphas 0-d float32.

    Raises:
        AdapterError: two modules whose flattened names are the same.
    """
    import torch

    tensors: dict[str, Tensor] = {}
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}
    if adapter.components.get("text_encoder_2"):
        prefixes["text_encoder"] = "lora_te1_"
    for component, updates in adapter.components.items():
        for path, update in constant_alpha(updates).items():
            module = _flat(prefixes[component], path)
            if f"{module}.alpha" in tensors:
                raise AdapterError(
                    f"Two modules of {component} flatten to {module}; kohya names cannot hold both."
                )
            tensors[f"{module}.alpha"] = torch.tensor(update.alpha, dtype=torch.float32)
            tensors[f"{module}.lora_down.weight"] = update.down
            tensors[f"{module}.lora_up.weight"] = update.up
    return tensors


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


FORMAT = Format("kohya", _parse, _spellings)
