"""Two models, or a model and adapters, tensor by tensor: without a model in memory.

stored    where each weight lies, in a folder or in one checkpoint
extract   the difference of two models as an adapter
fuse      a base with adapters added to it; folders: which files belong to one
sums      its tensors with adapters added; as_folder: one checkpoint as a folder
"""

from __future__ import annotations

from .extract import ExtractedFile, extract_adapter
from .fuse import FusedBase, fuse_base
from .stored import StoredBase, StoredTensor, open_stored

__all__ = [
    "ExtractedFile",
    "FusedBase",
    "StoredBase",
    "StoredTensor",
    "extract_adapter",
    "fuse_base",
    "open_stored",
]
