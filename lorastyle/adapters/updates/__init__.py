"""Updates that are not low rank: one file a kind, each with its formula and where it comes from."""

from __future__ import annotations

from .build import Built, build
from .difference import Difference
from .dora import DoRA, dense
from .hadamard import Hadamard
from .ia3 import IA3
from .kronecker import Kronecker
from .orthogonal import Orthogonal
from .update import Update

__all__ = [
    "IA3",
    "Built",
    "Difference",
    "DoRA",
    "Hadamard",
    "Kronecker",
    "Orthogonal",
    "Update",
    "build",
    "dense",
]
