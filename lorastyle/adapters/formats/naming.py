"""What a naming family must offer. Nothing here, nor in the formats, needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class TensorName:
    """One tensor's key, taken apart.

    `module` is the module as the format spells it, component prefix included. `role` says what the tensor is
    to the module ("down", "up", "alpha", "lokr_w1", ...). `algorithm` is the kind of update that has such
    tensors; empty for plain LoRA.
    """

    component: str
    module: str
    role: str
    algorithm: str = ""


def _rank_is_alpha(component: str, path: str, rank: int, metadata: Mapping[str, str]) -> float:
    return float(rank)


@dataclass(frozen=True)
class Format:
    """A naming family.

    Args:
        name: its word in reports.
        owner: the component of a spelled module; None if the name is not of this family.
        spellings: every name that the family gives the live module `path` of a component. Names in files are
            looked up among these, because turning `to_out_0` back into dots by rule is ambiguous.
        default_alpha: alpha of a module whose file holds no alpha tensor.
    """

    name: str
    owner: Callable[[str], str | None]
    spellings: Callable[[str, str], tuple[str, ...]]
    default_alpha: Callable[[str, str, int, Mapping[str, str]], float] = _rank_is_alpha


def with_text_model(path: str) -> str:
    """A CLIP text encoder's module path as it was before transformers 5 dropped the `text_model.` prefix."""
    inner = ("encoder.", "embeddings.", "final_layer_norm")
    return f"text_model.{path}" if path.startswith(inner) else path


def text_paths(path: str) -> tuple[str, ...]:
    """A text encoder's module path with and without that prefix."""
    full = with_text_model(path)
    return tuple(dict.fromkeys((full, full.removeprefix("text_model."))))
