"""Which bases are at hand: the embedded one, the one that is set, and those of the Hub's cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from .places import look_at

KINDS = (
    "StableDiffusionPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLInpaintPipeline",
)
_HAVE_WEIGHTS = ("unet", "vae", "text_encoder")  # and text_encoder_2


@dataclass(frozen=True)
class BaseAtHand:
    """A base on this machine, or one that was asked for."""

    name: str  # as --base takes it
    source: (
        str  # "embedded", "hub cache", or where LORASTYLE_BASE names it: "folder", "file", "hub", "nothing"
    )
    kind: str  # the pipeline's class
    size: int  # bytes
    ready: bool
    note: str = ""  # what is missing


@dataclass(frozen=True)
class Bases:
    """What --base can name without a download."""

    default: str  # what is used when none is named
    at_hand: tuple[BaseAtHand, ...] = ()


def look_at_bases() -> Bases:
    """All of them. Only small files are read; the self-test loads the embedded one."""
    from lorastyle.bases import EMBEDDED, default_base

    default = default_base()
    cached = _hub_cache()
    found = [_folder("embedded", "embedded", EMBEDDED)]
    if default != "embedded":
        set_here = next((base for base in cached if base.name == default), None)
        found.append(_named(default) if set_here is None else set_here)
    return Bases(default, (*found, *(base for base in cached if base not in found)))


def _named(name: str) -> BaseAtHand:
    """What LORASTYLE_BASE names, where that is not the main branch of a model in the Hub's cache."""
    from lorastyle.bases import cached_folder
    from lorastyle.hub import split_hub_id

    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(name, "folder", path)
    if path.is_file():
        return _checkpoint(name, path)
    if (hub_id := split_hub_id(name)) is not None:
        if (cached := cached_folder(*hub_id)) is not None:
            return _folder(name, "hub cache", cached)
        return BaseAtHand(name, "hub", "", 0, ready=False, note="not downloaded yet")
    return BaseAtHand(name, "nothing", "", 0, ready=False, note="there is no such folder or file")


def _checkpoint(name: str, path: Path) -> BaseAtHand:
    """A file, by its header: most that end in .safetensors are adapters, not bases."""
    from lorastyle.bases import peek_base
    from lorastyle.errors import BaseError

    note = ""
    try:
        peeked = peek_base(name)
        told = "" if peeked is None else f" ({peeked.family}{', inpainting' * peeked.inpainting})"
        kind = f"one checkpoint file{told}"
    except BaseError as error:
        kind, note = "one file", str(error)
    return BaseAtHand(name, "file", kind, path.stat().st_size, ready=not note, note=note)


def _folder(name: str, source: str, path: Path, size: int | None = None) -> BaseAtHand:
    """A pipeline's folder; what it must hold is what its own index says."""
    index = _index(path)
    kind = str(index.get("_class_name", ""))
    lacking = [
        part
        for part, value in index.items()
        if part.startswith(_HAVE_WEIGHTS)
        and isinstance(value, list)
        and cast("list[object]", value)[:1] != [None]
        and not any((path / part).glob("*.safetensors"))
    ]
    note = f"lacks the weights of {', '.join(lacking)}" if lacking else ""
    if kind not in KINDS:
        note = f"a {kind}, which lorastyle does not draw with" if kind else "it has no model_index.json"
    bytes_ = look_at("", path).size if size is None else size
    return BaseAtHand(name, source, kind, bytes_, ready=not note, note=note)


def _index(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no pipeline: most of what lies in a Hub's cache is none
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _hub_cache() -> list[BaseAtHand]:
    """The Stable Diffusion pipelines of the Hub's cache, by name."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir(HF_HUB_CACHE).repos
    except CacheNotFound:  # nothing was ever downloaded
        return []
    found: list[BaseAtHand] = []
    for repo in repos:
        if repo.repo_type != "model" or not repo.revisions:
            continue
        # what is loaded is the branch "main", where it was not asked for another
        revision = max(repo.revisions, key=lambda r: ("main" in r.refs, r.last_modified))
        base = _folder(repo.repo_id, "hub cache", revision.snapshot_path, revision.size_on_disk)
        if base.kind in KINDS:
            found.append(base)
    return sorted(found, key=lambda base: base.name)
