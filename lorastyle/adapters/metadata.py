"""What is written into an adapter file besides its weights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timezone

from lorastyle.errors import AdapterError

from .adapter import Adapter
from .families import FAMILIES
from .formats.stated import is_stated
from .lowrank import LowRank
from .privacy import without_private
from .updates import Difference, DoRA

_SGM = "https://github.com/Stability-AI/generative-models"
_ALGORITHMS: Mapping[str, str] = {
    "LoHa": "loha",
    "LoKr": "lokr",
    "OFT": "diag-oft",
    "BOFT": "boft",
    "IA3": "ia3",
    "full difference": "full",
}

# Hashes and strengths of the file that it was read from are wrong for the next one; and diffusers refuses a
# file with kohya's names that carries its own description of the adapter too.
_NEVER_CARRIED = frozenset({"sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256"})


def file_metadata(adapter: Adapter, *, format: str = "kohya", private: bool = False) -> dict[str, str]:
    """The adapter's own metadata, with what A1111, ComfyUI, kohya and ModelSpec 1.0.1 readers look for added.

    Keys that describe the weights (rank, alpha, name) are always written anew; others that the adapter
    carries already stay as they are, but for captions, folder names and paths. Hashes are added by
    `write_tensors`.

    Args:
        format: whose names the tensors have.
        private: keep captions, folder names and paths.

    Raises:
        AdapterError: a key or a value is not text.
    """
    for key, value in adapter.metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise AdapterError(
                f"Metadata {key!r}: {value!r} is not text; files hold text only. Use str or json.dumps."
            )
    carried = {
        key: value
        for key, value in adapter.metadata.items()
        if key not in _NEVER_CARRIED and not is_stated(key)
    }
    if not private:
        carried = without_private(carried)
    sizes = {"ss_network_dim": "1", "ss_network_alpha": "1"}
    return {**sizes, **_base(adapter), **_modelspec(adapter), **carried, **_network(adapter, format)}


def _network(adapter: Adapter, format: str) -> dict[str, str]:
    updates = [update for _, _, update in adapter.updates()]
    inside = [u.inside for _, _, u in adapter.dense_updates() if isinstance(u, DoRA)]
    updates += [update for update in inside if isinstance(update, LowRank)]
    others = any(not isinstance(u, Difference) for _, _, u in adapter.dense_updates())
    return {
        "ss_network_module": "lycoris.kohya" if others else "networks.lora",
        **_sizes(updates),
        "ss_network_args": json.dumps({"algo": _algorithm(adapter)} if others else {}),
        "ss_output_name": adapter.name,
        "modelspec.title": adapter.name,
        "modelspec.sai_model_spec": "1.0.1",
        # whose names the weights have: kohya's trainer says so of SDXL
        "modelspec.implementation": _SGM if format == "kohya" and adapter.family == "sdxl" else "diffusers",
    }


def _sizes(updates: Collection[LowRank]) -> Mapping[str, str]:
    """Rank and alpha. What has neither keeps what the adapter carries."""
    if not updates:
        return {}
    return {
        "ss_network_dim": _one_or_dynamic(Counter(str(update.rank) for update in updates)),
        "ss_network_alpha": _one_or_dynamic(Counter(f"{update.alpha:g}" for update in updates)),
    }


def _algorithm(adapter: Adapter) -> str:
    """LyCORIS's word for the commonest algorithm."""
    counted = Counter(update.algorithm for _, _, update in adapter.dense_updates())
    return _ALGORITHMS.get(counted.most_common(1)[0][0], "lora")


def _one_or_dynamic(values: Counter[str]) -> str:
    return next(iter(values)) if len(values) == 1 else "Dynamic"  # kohya's own word for mixed ranks


def _base(adapter: Adapter) -> Mapping[str, str]:
    if (family := adapter.family) is None:
        return {}
    known = FAMILIES.get(family)
    return {
        "lorastyle.base": family,
        "ss_base_model_version": known.ss_base if known else family,
        "ss_v2": str(family == "sd2"),
    }


def _modelspec(adapter: Adapter) -> Mapping[str, str]:
    family = adapter.family or "unknown"
    architecture = FAMILIES[family].architecture if family in FAMILIES else family
    spec = {
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return {**spec, "modelspec.trigger_phrase": adapter.trigger} if adapter.trigger else spec
