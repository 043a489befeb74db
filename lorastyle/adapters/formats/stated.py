"""Strengths that are stated beside the tensors: in peft's configuration, or in the header of the file.

An alpha tensor always wins, as in ComfyUI and in kohya's programs. Without one, these say it, the first that
does: `adapter_config.json` of a peft folder; `lora_adapter_metadata`, which diffusers writes, JSON with keys
such as `unet.lora_alpha`; keys of that form in the header itself; and such keys without a component. kohya's
`ss_network_alpha` records the training and is not used: no program does, and converters that move the scale
into the factors leave it as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from lorastyle.errors import AdapterFileError

from .lora_config import ALPHAS, RANKS, config_alpha, config_rank, parse_config
from .naming import COMPONENTS, text_paths

CONFIG = "adapter_config.json"
"""The file name of a peft configuration, and the metadata key that carries its text."""
METADATA_KEY = "lora_adapter_metadata"
_COPIES = ("adapter_config", "peft_config", "lora_config")  # of a peft configuration, in a header
_NAMES = (*ALPHAS, *RANKS, "use_rslora", "alpha_pattern", "rank_pattern", "init_lora_weights", "kasa_config")
_PATTERNS = ("alpha_pattern", "rank_pattern")
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "unet": ("unet", "diffusion_model"),
    "text_encoder": ("text_encoder", "text_encoder_1", "te", "te1"),
    "text_encoder_2": ("text_encoder_2", "te2"),
}
_ALL_ALIASES = frozenset(alias for aliases in _ALIASES.values() for alias in aliases) | {"transformer"}
# Of peft's ways to start, those that take what they start with out of the base's weights.
_CHANGE_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")


@dataclass(frozen=True)
class Module:
    """What is known of a module without its weights.

    Attributes:
        path: in the model, or as the file spells it without its prefix.
        rank: of its factors, None where it has none.
        alpha: of its tensor; None where it has none.
    """

    component: str
    path: str
    rank: int | None
    alpha: float | None


@dataclass(frozen=True)
class _Settings:
    where: str
    values: Mapping[str, object]


def default_alpha(component: str, path: str, rank: int | None, metadata: Mapping[str, str]) -> float:
    """alpha of a module without a tensor for it: as stated beside the tensors, or else the rank.

    Args:
        rank: None is a Kronecker product of two whole matrices: the answer is its strength then, 1 if none is
            stated.

    Raises:
        AdapterFileError: what is stated cannot be read.
    """
    stated = _stated(component, path, rank, metadata)
    return stated if stated is not None else 1.0 if rank is None else float(rank)


def check_stated(metadata: Mapping[str, str]) -> None:
    """Is what the factors belong to the base as it is?

    Raises:
        AdapterFileError: they were started with PiSSA, OLoRA or the like, which change the base too; or the
            configuration cannot be read.
    """
    for component in COMPONENTS:
        for settings in _all_settings(component, metadata):
            start, kasa = settings.values.get("init_lora_weights"), settings.values.get("kasa_config")
            if kasa:
                start = "kasa"
            elif not isinstance(start, str) or not start.lower().startswith(_CHANGE_BASE):
                continue
            raise AdapterFileError(
                f"{settings.where} says that it was started with {start!r}, which also changes the weights "
                "of the base, so its factors are not the update of the base as it is. Save it again in peft "
                "with save_pretrained(..., path_initial_model_for_weight_conversion=...), which makes a "
                "LoRA of it."
            )


def is_stated(key: str) -> bool:
    """Whether a key of a header states a strength, which is true of the tensors beside it alone."""
    component, _, name = key.rpartition(".")
    return key in (METADATA_KEY, *_COPIES) or (
        name in _NAMES and (not component or component in _ALL_ALIASES)
    )


def states_strength(metadata: Mapping[str, str]) -> bool:
    """Whether a strength is stated beside the tensors, or recorded as another than theirs may be."""
    return any(is_stated(key) or key == CONFIG for key in metadata) or metadata.get(
        "ss_network_alpha"
    ) != metadata.get("ss_network_dim")


def stated_notes(modules: Iterable[Module], metadata: Mapping[str, str]) -> tuple[str, ...]:
    """What is to be said of stated strengths that are not used, or do not agree with the tensors.

    Raises:
        AdapterFileError: what is stated cannot be read.
    """
    notes: dict[str, None] = {}
    for module in modules:
        if module.rank is None:
            continue
        paths = _paths(module.component, module.path)
        settings = _alpha_settings(module.component, metadata)
        for name in _unusable(module.component, metadata):
            notes[f"{name} in its header is {metadata[name]!r}, which is not a number, and is not used"] = (
                None
            )
        if settings is None:
            if module.alpha is None and (note := _of_training(module.rank, metadata)):
                notes[note] = None
            continue
        alpha = config_alpha(settings.values, paths, module.rank, settings.where)
        rank = config_rank(settings.values, paths, settings.where)
        if alpha is None:
            continue
        if module.alpha is not None and abs(module.alpha - alpha) > 5e-3 * abs(alpha):
            notes[
                f"{settings.where} states alpha {alpha:g} for rank {module.rank} of the {module.component}, "
                f"and an alpha tensor {module.alpha:g}; the tensor is used, as in other programs"
            ] = None
        elif module.alpha is None and rank not in (None, module.rank) and settings.where != CONFIG:
            notes[
                f"{settings.where} states alpha {alpha:g} for rank {rank} of the {module.component}, where "
                f"factors have rank {module.rank}: their strength is alpha / rank, {alpha / module.rank:g}"
            ] = None
    return tuple(notes)


def _of_training(rank: int, metadata: Mapping[str, str]) -> str:
    """kohya's record of the training, where it says another strength than the tensors have."""
    try:
        alpha, dim = (float(metadata.get(f"ss_network_{name}", "")) for name in ("alpha", "dim"))
    except ValueError:  # "Dynamic", "None", or not there
        return ""
    if alpha == dim or dim != rank:
        return ""
    return (
        f"it has no alpha tensor, and records that it was trained with alpha {alpha:g} at rank {dim:g}; as "
        "in other programs alpha equals the rank"
    )


def _stated(component: str, path: str, rank: int | None, metadata: Mapping[str, str]) -> float | None:
    settings = _alpha_settings(component, metadata)
    if settings is None:
        return None
    return config_alpha(settings.values, _paths(component, path), rank, settings.where)


def _paths(component: str, path: str) -> tuple[str, ...]:
    return (path,) if component == "unet" else text_paths(path)


def _alpha_settings(component: str, metadata: Mapping[str, str]) -> _Settings | None:
    says = (*ALPHAS, "alpha_pattern")
    return next(
        (s for s in _all_settings(component, metadata) if any(name in s.values for name in says)), None
    )


def _all_settings(component: str, metadata: Mapping[str, str]) -> tuple[_Settings, ...]:
    keys = (CONFIG, METADATA_KEY, *_COPIES)
    if not any(key in metadata for key in keys) and not any(key.endswith(_NAMES) for key in metadata):
        return ()
    return _settings_of(component, tuple(sorted(metadata.items())))


@lru_cache(maxsize=16)
def _settings_of(component: str, items: tuple[tuple[str, str], ...]) -> tuple[_Settings, ...]:
    metadata, found = dict(items), list[_Settings]()
    if text := metadata.get(CONFIG):
        found.append(_Settings(CONFIG, parse_config(text, CONFIG)))
    if text := metadata.get(METADATA_KEY):
        whole = parse_config(text, METADATA_KEY)
        if own := _own(component, whole):
            found.append(_Settings(METADATA_KEY, own))
        elif not any(key.split(".")[0] in _ALL_ALIASES for key in whole):
            found.append(_Settings(METADATA_KEY, whole))
    for key in _COPIES:
        if isinstance(whole := _json(metadata.get(key, "")), dict):
            found.append(_Settings(f"{key} in its header", cast("dict[str, object]", whole)))
    header = {key: value for key, text in items if (value := _value(key, text)) is not None}
    if own := _own(component, header):
        found.append(_Settings("its header", own))
    if general := {key: value for key, value in header.items() if "." not in key}:
        found.append(_Settings("its header", general))
    return tuple(found)


def _own(component: str, settings: Mapping[str, object]) -> dict[str, object]:
    """The settings whose keys begin with the component's name, without it."""
    return {
        key.removeprefix(f"{alias}."): value
        for alias in reversed(_ALIASES[component])
        for key, value in settings.items()
        if key.startswith(f"{alias}.")
    }


def _value(key: str, text: str) -> object:
    """What the text of a header means, where the key is one of those that are read; None otherwise.

    Texts that are no number where one is needed are left out: strangers write what they like.
    """
    name = key.rpartition(".")[2]
    if name not in _NAMES:
        return None
    value = _json(text)
    if value is None:
        value = {"True": True, "False": False}.get(text, text)
    if name in (*ALPHAS, *RANKS):
        return value if _is_number(value) else None
    if name.endswith("_pattern"):
        return cast("object", value) if isinstance(value, dict) else None
    return value


def _json(text: str) -> object:
    """What a text means as JSON; None where it is none."""
    try:
        return cast("object", json.loads(text))
    except (ValueError, RecursionError):
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _unusable(component: str, metadata: Mapping[str, str]) -> list[str]:
    """Keys that should say an alpha of the component, and do not."""
    keys = [f"{alias}.{name}" for alias in _ALIASES[component] for name in (*ALPHAS, *_PATTERNS)]
    return [
        key
        for key in (*keys, "lora_alpha", "network_alpha")
        if key in metadata and _value(key, metadata[key]) is None
    ]
