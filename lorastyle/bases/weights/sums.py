"""A base's tensors with adapters added to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lorastyle.adapters import Place, Weighted, places, read_tensors, safetensors_header
from lorastyle.errors import AdapterError

from .stored import StoredBase, StoredTensor

_LEAVES = ("weight", "bias")


class Sums:
    """Tensor after tensor, changed or not.

    Attributes:
        modules: how many layers were changed until now.

    Raises:
        AdapterError: an adapter changes a bias that the base has not.
    """

    def __init__(
        self, base: StoredBase, parts: Sequence[Weighted], on_module: Callable[[int, int], None] | None
    ) -> None:
        self.modules = 0
        self._base, self._on_module = base, on_module
        active = [part for part in parts if part.is_used]
        self._places = {(p.component, p.path): p for p in places(active, base.shapes)}
        self._lost = self._changed = 0.0
        self._at: dict[tuple[Path, str], list[tuple[str, str, StoredTensor]]] = {}
        for (component, path), place in self._places.items():
            tensors = base.tensors[component]
            vectors = place.vectors()
            if vectors is not None and vectors.bias is not None and f"{path}.bias" not in tensors:
                raise AdapterError(
                    f"{component} {path} has no bias in the base, and an adapter adds to it. Use it with the "
                    "base that it was made for."
                )
            for name in (f"{path}.{leaf}" for leaf in _LEAVES):
                if (stored := tensors.get(name)) is not None:
                    self._at.setdefault((stored.file, stored.source.key), []).append(
                        (component, name, stored)
                    )

    @property
    def rounding(self) -> float:
        """Of the whole change, the share of its norm that the weights' number type lost."""
        return math.sqrt(self._lost / self._changed) if self._changed else 0.0

    def file(self, file: Path, metadata: Mapping[str, str]) -> Iterator[bytes]:
        """The bytes of a safetensors file of the base, with the sums in their places.

        Raises:
            AdapterError: a sum that the file's number type cannot hold.
        """
        header = self._base.headers[file]
        yield safetensors_header(header.tensors, metadata)
        for key, _ in sorted(header.tensors.items(), key=lambda item: item[1].start):
            stored = read_tensors(file, header, [key])[key]
            if changes := self._at.get((file, key)):
                exact = _exact(stored)
                for component, name, tensor in changes:
                    weight = tensor.source.weight(stored, torch.float32)
                    if (delta := self._delta(component, name, weight)) is not None:
                        view = tensor.source.view(exact)
                        view += delta.reshape(view.shape)
                stored = self._rounded(stored, exact, key)
            yield stored.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    def tensor(self, component: str, name: str, stored: Tensor) -> Tensor:
        """One tensor of a live module, by its name in `StoredBase.tensors`: the sum, in the type it has."""
        if (delta := self._delta(component, name, stored.float())) is None:
            return stored
        return self._rounded(stored, _exact(stored) + delta.reshape(stored.shape), f"{component} {name}")

    def _delta(self, component: str, name: str, weight: Tensor) -> Tensor | None:
        """What is added to a weight or a bias, in float32; None where that is nothing."""
        path, _, leaf = name.rpartition(".")
        place = self._places.get((component, path))
        if place is None or leaf not in _LEAVES:
            return None
        if leaf == "weight":
            self.modules += 1
            if self._on_module is not None:
                self._on_module(self.modules, len(self._places))
        vectors = place.vectors()
        if leaf == "bias" or place.is_vector:
            return None if vectors is None else getattr(vectors, leaf)
        return _matrix(place, weight)

    def _rounded(self, before: Tensor, exact: Tensor, where: str) -> Tensor:
        if torch.equal(_exact(before), exact):
            return before
        if before.dtype.itemsize == 1:
            raise AdapterError(
                f"{where} of the base has numbers of 8 bits, which would round most of the change away. Take "
                "the base in half precision."
            )
        rounded = exact.to(before.dtype)
        if not bool(rounded.isfinite().all()):
            raise AdapterError(f"{where} would hold numbers that {before.dtype} cannot. Lower the scales.")
        self._lost += float((rounded.to(exact.dtype) - exact).square().sum(dtype=torch.float64))
        self._changed += float((exact - before.to(exact.dtype)).square().sum(dtype=torch.float64))
        return rounded


def _exact(stored: Tensor) -> Tensor:
    """A copy to add to: float32, or float64 where it is stored so."""
    return stored.to(torch.promote_types(stored.dtype, torch.float32), copy=True)


def _matrix(place: Place, weight: Tensor) -> Tensor:
    if place.is_low_rank:
        return place.stacked().delta()
    return torch.stack(place.matrices(lambda component, path: weight.reshape(place.shape))).sum(0)
