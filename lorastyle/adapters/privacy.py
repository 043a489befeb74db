"""What a file tells of the people who made it, and is left out unless it is asked for.

Trainers write captions, the names of image folders, and paths with user names in them. None of it changes
what an adapter draws.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath

# captions and tags; folders' names; kohya's `ss_datasets` has both, with paths
_PRIVATE = frozenset(
    {
        "ss_tag_frequency",
        "ss_dataset_dirs",
        "ss_reg_dataset_dirs",
        "ss_datasets",
        "ss_sample_prompts",
        "ss_train_data_dir",
        "ss_reg_data_dir",
        "ss_in_json",
        "ss_caption_file",
        "ss_output_dir",
        "ss_logging_dir",
        "ss_config_file",
        "ss_dataset_config",
    }
)
_ROOTS = "home|Users|root|mnt|media|data|workspace|content|kaggle|tmp|var|opt|srv|Volumes"
_START = rf"(?:/(?:{_ROOTS})/|[A-Za-z]:[\\/]|\\\\\w|~[\\/]|file://)"
_WHOLE = re.compile(rf"(?:{_START}|/[^/\s]+/)[^\n\"']*")
_INSIDE = re.compile(rf"(?:^|[\s\"'=(\[,]){_START}")


def without_private(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata without captions and folder names. Of a value that is a path the last part stays; a value
    with a path somewhere inside goes.
    """
    kept: dict[str, str] = {}
    for key, value in metadata.items():
        if key in _PRIVATE:
            continue
        if _WHOLE.fullmatch(value):
            value = _last_part(value)
        if value and not _INSIDE.search(value):
            kept[key] = value
    return kept


def _last_part(path: str) -> str:
    return PurePosixPath(PureWindowsPath(path.removeprefix("file://")).as_posix()).name
