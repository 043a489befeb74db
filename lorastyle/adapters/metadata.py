"""What is written into an adapter file besides its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone

from lorastyle.errors import AdapterError

from .adapter import Adapter
from .families import FAMILIES
from .lowrank import LowRank
from .updates import Difference, DoRA

# diffusers refuses a file with kohya's names that carries its own description of the adapter too; hashes of
# the file it was read from are wrong for the next one.
_NEVER_CARRIED = frozenset(
    {"lora_adapter_metadata", "sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256"}
)


def file_metadata(adapter: Adapter) -> dict[str, str]:
    """The adapter's own metadata, with what A1111, ComfyUI, kohya and ModelSpec 1.0.1 readers look for added.

    Keys that describe the weights (rank, alpha, name) are always written anew; others that the adapter
    carries already stay as they are. Nothing here knows captions, paths or folders. Hashes are added by
    `write_tensors`.

    Raises:
        AdapterError: a key or a value is not text.
    """
    for key, value in adapter.metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise AdapterError(
                f"Metadata {key!r}: {value!r} is not text; files hold text only. Use str or json.dumps."
            )
    carried = {key: value for key, value in adapter.metadata.items() if key not in _NEVER_CARRIED}
    return {**_base(adapter), **_modelspec(adapter), **carried, **_network(adapter)}


def _network(adapter: Adapter) -> dict[str, str]:
    updates = [update for _, _, update in adapter.updates()]
    inside = [u.inside for _, _, u in adapter.dense_updates() if isinstance(u, DoRA)]
    updates += [update for update in inside if isinstance(update, LowRank)]
    others = any(not isinstance(u, Difference) for _, _, u in adapter.dense_updates())
    return {
        "ss_network_module": "lycoris.kohya" if others else "networks.lora",
        "ss_network_dim": _one_or_dynamic(Counter(str(update.rank) for update in updates)),
        "ss_network_alpha": _one_or_dynamic(Counter(f"{update.alpha:g}" for update in updates)),
        "ss_output_name": adapter.name,
        "modelspec.title": adapter.name,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": "diffusers",
    }


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
