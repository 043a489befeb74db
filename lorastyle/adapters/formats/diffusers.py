"""Dotted names as diffusers writes them: `unet.<path>.lora_A.weight`, `unet.<path>.lora.down.weight`.

One file may mix the spellings of several years, so every key is taken by itself. There is no alpha tensor:
alpha equals the rank, unless the `lora_adapter_metadata` of newer files says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .lora_config import config_alpha, parse_config
from .lora_tensors import peft_tensors
from .naming import COMPONENTS, Format, text_paths, with_text_model

if TYPE_CHECKING:
    from torch import Tensor

    from ..adapter import Adapter

METADATA_KEY = "lora_adapter_metadata"
# a UNet that was saved by itself
_BARE = ("down_blocks.", "mid_block.", "up_blocks.", "time_embedding.", "add_embedding.")
_OLD = {"to_out.0": "to_out"}  # in the attention processors of diffusers before 0.20
_OLD_TEXT = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def _owner(module: str) -> str | None:
    if module.startswith(_BARE) or module in ("conv_in", "conv_out"):
        return "unet"
    return next((c for c in reversed(COMPONENTS) if module.startswith(f"{c}.")), None)


def _spellings(component: str, path: str) -> tuple[str, ...]:
    if component == "unet":
        names = [path, *_old(path)]
        return (*(f"unet.{name}" for name in names), *names)
    paths = text_paths(path)
    names = [*paths, *(old for name in paths for old in _old_text(name))]
    return tuple(f"{component}.{name}" for name in names)


def _old(path: str) -> list[str]:
    for end in ("to_q", "to_k", "to_v", "to_out.0"):
        if path.endswith(f".{end}"):
            return [f"{path.removesuffix(end)}processor.{_OLD.get(end, end)}"]
    return []


def _old_text(path: str) -> list[str]:
    parent, _, end = path.rpartition(".")
    return [f"{parent}.{_OLD_TEXT[end]}"] if end in _OLD_TEXT else []


def _alpha(component: str, path: str, rank: int, metadata: Mapping[str, str]) -> float:
    if not (text := metadata.get(METADATA_KEY)):
        return float(rank)
    prefix = f"{component}."
    settings = {
        key[len(prefix) :]: value
        for key, value in parse_config(text, METADATA_KEY).items()
        if key.startswith(prefix)
    }
    return config_alpha(settings, (path,) if component == "unet" else text_paths(path), rank, METADATA_KEY)


def write(adapter: Adapter) -> dict[str, Tensor]:
    """The tensors of a dotted file, of an adapter whose scales are folded into `up`: alpha is the rank, and
    no reader needs a number that this family has no place for.
    """
    tensors: dict[str, Tensor] = {}
    for component, path, update in (*adapter.updates(), *adapter.dense_updates()):
        name = f"{component}.{path if component == 'unet' else with_text_model(path)}"
        tensors |= {f"{name}.{end}": tensor for end, tensor in peft_tensors(update).items()}
    return tensors


FORMAT = Format("diffusers", _owner, _spellings, _alpha)
