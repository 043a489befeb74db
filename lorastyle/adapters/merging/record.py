"""What a merged adapter says of itself, and the words that it teaches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lorastyle.notes import note

from ..origin import MERGED_FROM
from ..report import AdapterWarning
from .weighted import Weighted

# what stays true where it is true of all
_SHARED = (
    "lorastyle.base",
    "ss_base_model_version",
    "ss_v2",
    "modelspec.architecture",
    "modelspec.prediction_type",
    "modelspec.resolution",
)


def merged_metadata(
    parts: Sequence[Weighted], method: str, density: float | None, seed: int, error: float
) -> dict[str, str]:
    """Names, hashes and scales of the parts, how they were merged, and what of theirs is true of all."""
    adapters: list[dict[str, object]] = []
    for part in parts:
        one: dict[str, object] = {"name": part.adapter.name, **part.scales}
        if part.hash is not None:
            one["hash"] = part.hash
        if part.blocks is not None:
            one["blocks"] = part.blocks.text
        adapters.append(one)
    told: dict[str, object] = {"method": method}
    if density is not None:
        told["density"] = density
    if method == "dare":
        told["seed"] = seed
    told |= {"relative_error": round(error, 6), "adapters": adapters}
    metadata = {MERGED_FROM: json.dumps(told, ensure_ascii=False)}
    for key in _SHARED:
        values = {part.adapter.metadata.get(key) for part in parts}
        if len(values) == 1 and (value := values.pop()) is not None:
            metadata[key] = value
    family = next((part.adapter.family for part in parts if part.adapter.family), None)
    if family is not None:
        metadata["lorastyle.base"] = family
    triggers = list(dict.fromkeys(part.adapter.trigger for part in parts if part.adapter.trigger))
    if triggers:
        metadata["lorastyle.trigger"] = ", ".join(triggers)
    return metadata


def merged_words(parts: Sequence[Weighted]) -> dict[str, Mapping[str, Tensor]]:
    """The textual inversions of all; of a word that two teach, the first one's.

    Warns:
        AdapterWarning: where both are not the same.
    """
    words: dict[str, Mapping[str, Tensor]] = {}
    for part in parts:
        for word, vectors in part.adapter.words.items():
            if word in words and not _same(words[word], vectors):
                note(
                    f"{part.adapter.name!r} teaches the word {word!r} otherwise than an adapter before it; "
                    "the first one's stays.",
                    AdapterWarning,
                    stacklevel=4,
                )
            words.setdefault(word, vectors)
    return words


def _same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
