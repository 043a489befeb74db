"""What an update that is not low rank must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, cast

from torch import Tensor

from ..lowrank import LowRank, is_finite

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False, kw_only=True)
class Update(ABC):
    """A change of one module that is computed from its original weight, and fused into it.

    Half of such an update is what half of the difference is: at the user's scale s the weight is
    W + s * delta(W), whatever the algorithm.

    Attributes:
        bias: added to the module's bias, (out,); None leaves it as it is.
    """

    bias: Tensor | None = None

    @property
    @abstractmethod
    def algorithm(self) -> str:
        """Its name, as people know it."""

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of a weight that it fits, where its tensors say it."""
        return None

    @property
    def reads_weight(self) -> bool:
        """Whether its difference depends on the weight that it changes, so that none is known without it."""
        return False

    @abstractmethod
    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a weight of this shape can be changed so."""

    @abstractmethod
    def delta(self, weight: Tensor) -> Tensor | None:
        """What is added to the original weight, in float32 and in its shape; None where it stays."""

    @abstractmethod
    def factors(self) -> Mapping[str, Tensor]:
        """The tensors that make the weight's part, by the end that their key has in kohya's files."""

    def tensors(self) -> dict[str, Tensor]:
        """All of its tensors, by the end that their key has in kohya's files."""
        factors = dict(self.factors())
        if self.bias is not None:
            factors["b_norm" if "w_norm" in factors else "diff_b"] = self.bias
        return factors

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same update with every tensor changed: to another dtype, say."""
        return replace(self, **{f.name: _mapped(getattr(self, f.name), change) for f in fields(self)})

    @property
    def parameters(self) -> int:
        return sum(tensor.numel() for tensor in self.tensors().values())

    @property
    def finite(self) -> bool:
        """Whether no number in it is NaN or infinite."""
        return all(is_finite(t.detach()) for t in self.tensors().values() if t.is_floating_point())


def _mapped(value: object, change: Callable[[Tensor], Tensor]) -> object:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, LowRank):
        return LowRank(change(value.down), change(value.up), value.alpha)
    if isinstance(value, Update):
        return value.mapped(change)
    if isinstance(value, Mapping):
        return {name: change(part) for name, part in cast("Mapping[str, Tensor]", value).items()}
    return value


def same_weight(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether a weight of one shape can be seen as one of the other: Linear and a convolution's flat form."""
    return a == b or (a[:1] == b[:1] and _count(a) == _count(b))


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
