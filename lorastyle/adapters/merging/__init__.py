"""Many adapters into one: the exact sum, the sum at a lower rank, or pruned and then added.

weighted   what goes in; place: what all of it changes at a module
pruning    TIES, DARE, magnitude: formulas on dense differences
settings   by which method, and to what size
merge      module after module; files: the same on files; record: what the result says of itself
"""

from __future__ import annotations

from .files import MergedFile, PartFile, merge_files, read_weighted
from .merge import merge
from .place import Place, places
from .result import Merged
from .settings import MERGE_METHODS, MergeSettings
from .weighted import Weighted, Weights, check_parts

__all__ = [
    "MERGE_METHODS",
    "MergeSettings",
    "Merged",
    "MergedFile",
    "PartFile",
    "Place",
    "Weighted",
    "Weights",
    "check_parts",
    "merge",
    "merge_files",
    "places",
    "read_weighted",
]
