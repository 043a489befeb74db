"""LoKr: the Kronecker product of a small matrix and a large one, each whole or in two factors.

    delta = scale * kron(w1, w2)        (Yeh et al. 2023, LyCORIS, arXiv:2309.14859, section 3.3)

The scale is alpha / rank of the factored side, the large one's where both are; with both whole it is 1 and
alpha says nothing. Sources: `lycoris/functional/lokr.py`, ComfyUI's `comfy/weight_adapter/lokr.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lorastyle.errors import AdapterError

from .update import Update, same_weight


@dataclass(frozen=True, eq=False, kw_only=True)
class Kronecker(Update):
    """LoKr.

    Attributes:
        parts: the tensors as in the file, without `lokr_`: "w1" or "w1_a" and "w1_b"; "w2" or "w2_a" and
            "w2_b", with "t2" between them where there is a Tucker core.
        alpha: as in the file.
    """

    parts: Mapping[str, Tensor]
    alpha: float

    def __post_init__(self) -> None:
        shapes = {name: tuple(part.shape) for name, part in self.parts.items()}
        sides = {name: shape for name, shape in shapes.items() if name not in ("w2", "w2_b", "t2")}
        whole = all(len(shape) == 2 for shape in sides.values())
        whole = whole and all(len(shapes.get(name, (0, 0))) in (2, 4) for name in ("w2", "w2_b"))
        if whole and "w1" not in shapes:
            whole = shapes["w1_a"][1] == shapes["w1_b"][0]
        if whole and "w2" not in shapes:
            core = shapes.get("t2")
            middle = (shapes["w2_a"][1],) * 2 if core is None else core[:2]
            own = (middle[0], shapes["w2_b"][0]) if core is None else (shapes["w2_a"][0], shapes["w2_b"][0])
            whole = own == middle and (core is None or (len(core) == 4 and len(shapes["w2_b"]) == 2))
        if not whole or any(0 in shape for shape in shapes.values()):
            raise AdapterError(f"factors that do not go together: {shapes}")

    @property
    def algorithm(self) -> str:
        return "LoKr"

    @property
    def scale(self) -> float:
        rank = lokr_rank(self.parts)
        return 1.0 if rank is None else self.alpha / rank

    @property
    def shape(self) -> tuple[int, ...]:
        first, second = self._shapes()
        return (first[0] * second[0], first[1] * second[1], *second[2:])

    def fits(self, shape: tuple[int, ...]) -> bool:
        return same_weight(self.shape, shape)

    def delta(self, weight: Tensor) -> Tensor:
        parts = {name: part.to(weight.device).float() for name, part in self.parts.items()}
        first = parts["w1"] if "w1" in parts else parts["w1_a"] @ parts["w1_b"]
        if "w2" in parts:
            second = parts["w2"]
        elif "t2" in parts:
            second = torch.einsum("ijhw,ip,jq->pqhw", parts["t2"], parts["w2_a"], parts["w2_b"])
        else:
            second = (parts["w2_a"] @ parts["w2_b"].flatten(1)).unflatten(1, parts["w2_b"].shape[1:])
        if second.ndim == 4:
            first = first[..., None, None]
        return (self.scale * torch.kron(first, second.contiguous())).reshape(weight.shape)

    def factors(self) -> Mapping[str, Tensor]:
        parts = {f"lokr_{name}": part for name, part in self.parts.items()}
        return {**parts, "alpha": torch.tensor(self.alpha)}

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        parts = {name: tuple(part.shape) for name, part in self.parts.items()}
        first = parts["w1"] if "w1" in parts else (parts["w1_a"][0], parts["w1_b"][1])
        if "w2" in parts:
            return first, parts["w2"]
        if "t2" in parts:
            return first, (parts["w2_a"][1], parts["w2_b"][1], *parts["t2"][2:])
        return first, (parts["w2_a"][0], *parts["w2_b"][1:])


def lokr_rank(parts: Mapping[str, Tensor]) -> int | None:
    """The rank of the factored side; None where both are whole."""
    for name in ("w2_b", "w1_b"):
        if name in parts:
            return int(parts[name].shape[0])
    return None
