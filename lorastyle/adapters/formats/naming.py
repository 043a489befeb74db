"""What a naming family must offer. Nothing here, nor in the formats, needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")

Role = Literal["down", "up", "mid", "alpha", "unsupported"]


@dataclass(frozen=True)
class TensorName:
    """One tensor's key, taken apart.

    `module` is the module as the format spells it, component prefix included. Where the role is
    "unsupported", `detail` names the algorithm that the tensor belongs to.
    """

    component: str
    module: str
    role: Role
    detail: str = ""


def _rank_is_alpha(component: str, path: str, rank: int, metadata: Mapping[str, str]) -> float:
    return float(rank)


@dataclass(frozen=True)
class Format:
    """A naming family.

    Args:
        name: its word in reports.
        parse: takes a key apart; None if the key is not of this family.
        spellings: every name that the family gives the live module `path` of a component. Names in files are
            looked up among these, because turning `to_out_0` back into dots by rule is ambiguous.
        default_alpha: alpha of a module whose file holds no alpha tensor.
    """

    name: str
    parse: Callable[[str], TensorName | None]
    spellings: Callable[[str, str], tuple[str, ...]]
    default_alpha: Callable[[str, str, int, Mapping[str, str]], float] = _rank_is_alpha


def with_text_model(path: str) -> str:
    """A CLIP text encoder's module path as it was before transformers 5 dropped the `text_model.` prefix."""
    inner = ("encoder.", "embeddings.", "final_layer_norm")
    return f"text_model.{path}" if path.startswith(inner) else path
