"""What a file's metadata tell of its training, in words; and the words that may call it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import cast

# kohya's keys, as `train_network.py` of github.com/kohya-ss/sd-scripts writes them, and what they mean
_LABELS: Mapping[str, str] = {
    "ss_sd_model_name": "trained on",
    "ss_num_train_images": "images",
    "ss_steps": "steps",
    "ss_max_train_steps": "of at most",
    "ss_num_epochs": "epochs",
    "ss_total_batch_size": "batch",
    "ss_batch_size_per_device": "batch",
    "ss_resolution": "resolution",
    "ss_learning_rate": "learning rate",
    "ss_unet_lr": "UNet learning rate",
    "ss_text_encoder_lr": "text encoder learning rate",
    "ss_lr_scheduler": "schedule",
    "ss_optimizer": "optimizer",
    "ss_network_module": "network",
    "ss_noise_offset": "noise offset",
    "ss_min_snr_gamma": "min-SNR gamma",
    "ss_clip_skip": "clip skip",
    "ss_seed": "seed",
    "ss_training_comment": "comment",
}
_EMPTY = frozenset({"", "None", "null", "{}"})
_MOST_TEXT = 2_000_000  # characters of tags that are looked at
_SHARE = 0.5  # a tag on every other image may be the word that calls the adapter


def recipe_lines(metadata: Mapping[str, str]) -> list[tuple[str, str]]:
    """(what, value) of the training, as far as kohya's keys tell it."""
    lines: dict[str, str] = {}
    for key, label in _LABELS.items():
        value = metadata.get(key, "")
        if value not in _EMPTY:
            lines.setdefault(label, value)
    for key in ("ss_training_started_at", "ss_training_finished_at"):
        if (when := _date(metadata.get(key, ""))) is not None:
            lines["trained"] = when
    return list(lines.items())


def _date(value: str) -> str | None:
    try:
        return datetime.fromtimestamp(float(value), timezone.utc).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return None


def frequent_tags(metadata: Mapping[str, str], most: int = 5) -> tuple[str, ...]:
    """Tags on at least half of the images, commonest first: where no trigger is recorded, it is likely among
    them. `ss_tag_frequency` is {folder: {tag: images}}.
    """
    counts: dict[str, int] = {}
    largest = 0
    text = metadata.get("ss_tag_frequency", "")
    try:
        folders = json.loads(text) if len(text) <= _MOST_TEXT else None
    except (ValueError, RecursionError):
        return ()
    if not isinstance(folders, dict):
        return ()
    for tags in cast("dict[str, object]", folders).values():
        if not isinstance(tags, dict):
            continue
        for tag, count in cast("dict[str, object]", tags).items():
            if isinstance(count, int) and tag.strip():
                counts[tag.strip()] = counts.get(tag.strip(), 0) + count
                largest = max(largest, counts[tag.strip()])
    common = [tag for tag, count in counts.items() if count >= _SHARE * largest]
    return tuple(sorted(common, key=lambda tag: -counts[tag])[:most])
