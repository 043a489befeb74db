"""An adapter as data: low-rank updates per module, and the files they live in.

Importing this package, and reading what is in a file with `read_info`, does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .atomic import atomic_write, move_new
from .block_weights import BLOCKS, SPLITS, BlockWeights, block_name, leads_to
from .disk_space import (
    FULL,
    TOO_MANY_FILES,
    Lack,
    check_space,
    existing_parent,
    free_space,
    lack_of_space,
    megabytes,
    write_advice,
)
from .families import FAMILIES, Family, family_title
from .glance import Glance, glance
from .header import Header, TensorEntry, read_header
from .header_bytes import safetensors_header, set_metadata
from .info import AdapterInfo, ComponentInfo, read_info
from .lock import lock_file
from .origin import EXTRACTED_FROM, MERGED_FROM
from .privacy import without_private
from .sidecars import SHEET, write_sidecars
from .source import (
    CONFIGS,
    adapter_files,
    adapter_folder_files,
    content_hash,
    file_hash,
    is_adapter_folder,
    model_hash,
)
from .thumbnail import thumbnail

if TYPE_CHECKING:
    from .adapter import Adapter
    from .compare import Comparison, compare_adapters
    from .convert import (
        Conversion,
        check_convertible,
        convert_adapter,
        free_target,
        known_modules,
        load_whole,
        written_dtypes,
    )
    from .cutting import Cutter, Limit, RankCut, cut_error
    from .decompose import dense_spectrum
    from .extracting import Extracted, extract
    from .file_room import numbers_within
    from .files import read_tensors
    from .fresh_memory import room
    from .health import BadTensor
    from .inspect import InspectedWord, Inspection, inspect_adapter
    from .interference import Interference, measure_interference
    from .k_lora import turning_points
    from .load import Modules, load_adapter, load_adapter_report
    from .look import Look
    from .lowrank import LowRank, Spectrum, is_finite
    from .measure import Measure
    from .merging import (
        MERGE_METHODS,
        Merged,
        MergedFile,
        MergeSettings,
        PartFile,
        Place,
        Weighted,
        check_parts,
        merge,
        merge_files,
        places,
        read_weighted,
    )
    from .readers import Verdict, judge_readers
    from .report import AdapterWarning, LoadReport
    from .resize import Resized, ResizedFile, Shrunk, resize_adapter, shrink
    from .save import TooManyBytes, save_adapter
    from .shares import Share
    from .side_by_side import Span, spans
    from .updates import IA3, Difference, DoRA, Hadamard, Kronecker, Orthogonal, Update

__all__ = [
    "BLOCKS",
    "CONFIGS",
    "EXTRACTED_FROM",
    "FAMILIES",
    "FULL",
    "IA3",
    "MERGED_FROM",
    "MERGE_METHODS",
    "SHEET",
    "SPLITS",
    "TOO_MANY_FILES",
    "Adapter",
    "AdapterInfo",
    "AdapterWarning",
    "BadTensor",
    "BlockWeights",
    "Comparison",
    "ComponentInfo",
    "Conversion",
    "Cutter",
    "Difference",
    "DoRA",
    "Extracted",
    "Family",
    "Glance",
    "Hadamard",
    "Header",
    "InspectedWord",
    "Inspection",
    "Interference",
    "Kronecker",
    "Lack",
    "Limit",
    "LoadReport",
    "Look",
    "LowRank",
    "Measure",
    "MergeSettings",
    "Merged",
    "MergedFile",
    "Modules",
    "Orthogonal",
    "PartFile",
    "Place",
    "RankCut",
    "Resized",
    "ResizedFile",
    "Share",
    "Shrunk",
    "Span",
    "Spectrum",
    "TensorEntry",
    "TooManyBytes",
    "Update",
    "Verdict",
    "Weighted",
    "adapter_files",
    "adapter_folder_files",
    "atomic_write",
    "block_name",
    "check_convertible",
    "check_parts",
    "check_space",
    "compare_adapters",
    "content_hash",
    "convert_adapter",
    "cut_error",
    "dense_spectrum",
    "existing_parent",
    "extract",
    "family_title",
    "file_hash",
    "free_space",
    "free_target",
    "glance",
    "inspect_adapter",
    "is_adapter_folder",
    "is_finite",
    "judge_readers",
    "known_modules",
    "lack_of_space",
    "leads_to",
    "load_adapter",
    "load_adapter_report",
    "load_whole",
    "lock_file",
    "measure_interference",
    "megabytes",
    "merge",
    "merge_files",
    "model_hash",
    "move_new",
    "numbers_within",
    "places",
    "read_header",
    "read_info",
    "read_tensors",
    "read_weighted",
    "resize_adapter",
    "room",
    "safetensors_header",
    "save_adapter",
    "set_metadata",
    "shrink",
    "spans",
    "thumbnail",
    "turning_points",
    "without_private",
    "write_advice",
    "write_sidecars",
    "written_dtypes",
]

_LATE = {  # modules that need torch, or that few callers need
    "Adapter": "adapter",
    "AdapterWarning": "report",
    "BadTensor": "health",
    "Comparison": "compare",
    "Conversion": "convert",
    "Cutter": "cutting",
    "Difference": "updates",
    "DoRA": "updates",
    "Extracted": "extracting",
    "Hadamard": "updates",
    "IA3": "updates",
    "InspectedWord": "inspect",
    "Inspection": "inspect",
    "Interference": "interference",
    "Kronecker": "updates",
    "Limit": "cutting",
    "LoadReport": "report",
    "Look": "look",
    "LowRank": "lowrank",
    "Measure": "measure",
    "MERGE_METHODS": "merging",
    "MergeSettings": "merging",
    "Merged": "merging",
    "MergedFile": "merging",
    "Modules": "load",
    "Orthogonal": "updates",
    "PartFile": "merging",
    "Place": "merging",
    "RankCut": "cutting",
    "Resized": "resize",
    "ResizedFile": "resize",
    "Share": "shares",
    "Shrunk": "resize",
    "Span": "side_by_side",
    "Spectrum": "lowrank",
    "TooManyBytes": "save",
    "Update": "updates",
    "Verdict": "readers",
    "Weighted": "merging",
    "check_convertible": "convert",
    "check_parts": "merging",
    "compare_adapters": "compare",
    "convert_adapter": "convert",
    "inspect_adapter": "inspect",
    "cut_error": "cutting",
    "dense_spectrum": "decompose",
    "extract": "extracting",
    "free_target": "convert",
    "is_finite": "lowrank",
    "judge_readers": "readers",
    "known_modules": "convert",
    "load_adapter": "load",
    "load_adapter_report": "load",
    "load_whole": "convert",
    "measure_interference": "interference",
    "merge": "merging",
    "merge_files": "merging",
    "numbers_within": "file_room",
    "places": "merging",
    "read_tensors": "files",
    "read_weighted": "merging",
    "resize_adapter": "resize",
    "room": "fresh_memory",
    "save_adapter": "save",
    "shrink": "resize",
    "spans": "side_by_side",
    "turning_points": "k_lora",
    "written_dtypes": "convert",
}

if not TYPE_CHECKING:  # hidden from type checkers, so that a misspelt name stays an error for them

    def __getattr__(name: str) -> object:
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
