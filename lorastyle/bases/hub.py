"""A base of the Hugging Face Hub: its folder in the local cache, whole, or one sentence why not."""

from __future__ import annotations

from pathlib import Path

from lorastyle.adapters import existing_parent, lack_of_space
from lorastyle.errors import BaseError
from lorastyle.hub import split_hub_id, why

from .folder import check_index, check_kind, inspect_folder
from .hub_files import needed_files


def fetch(repo: str, revision: str | None, name: str) -> Path:
    """The folder of a Hub model in the local cache.

    What is whole there is taken as it is, without a word to the network. Otherwise what is lacking is
    downloaded, and only what drawing needs (`needed_files`).

    Args:
        repo: "owner/name".
        revision: a branch, tag or commit; None is the main branch.
        name: what the user called it, for the errors.

    Raises:
        BaseError: no such model or revision, a token is needed, no network, too little room on the disk, or
            no pipeline with safetensors weights in it. Only where the network fails half-way has anything
            been downloaded by then; the next call goes on from there.
    """
    from huggingface_hub import HfApi

    cached = cached_folder(repo, revision)
    if cached is not None and _is_whole(cached, name):
        return cached
    api = HfApi()
    try:
        info = api.model_info(repo, revision=revision, files_metadata=True)
        sizes = {item.rfilename: item.size or 0 for item in info.siblings or ()}
        if kind := ((info.config or {}).get("diffusers") or {}).get("_class_name"):  # where the Hub knows it
            check_kind(str(kind), name)
        wanted = needed_files(sizes, name)
        _check_room(sum(sizes[file] for file in wanted), name)
        # a few hundred bytes, which say whether the gigabytes are worth fetching
        check_index(Path(api.hf_hub_download(repo, "model_index.json", revision=revision)), name)
        return Path(api.snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except BaseError:
        raise
    except Exception as error:  # httpx, requests and huggingface_hub each raise kinds of their own
        reason = why(error, repo, revision, api, instead='use "embedded" or a folder')
        raise BaseError(
            f'The base "{name}" is no folder here and not whole in the local cache; {reason}'
        ) from error


def cached_folder(repo: str, revision: str | None = None, *, file: str = "model_index.json") -> Path | None:
    """The cache's folder of a model that has `file`, whether or not the rest is there too."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    found = try_to_load_from_cache(repo, file, revision=revision, cache_dir=HF_HUB_CACHE)
    return Path(found).parent if isinstance(found, str) else None


def needs_download(name: str) -> bool:
    """Whether loading this base would fetch something: it is a Hub id, and not whole in the local cache."""
    hub_id = None if Path(name).expanduser().exists() else split_hub_id(name)
    if hub_id is None:
        return False
    cached = cached_folder(*hub_id)
    return cached is None or not _is_whole(cached, name)


def _is_whole(folder: Path, name: str) -> bool:
    try:
        inspect_folder(folder, name)
    except BaseError:  # a download that was cut short, or just the files that another program wanted
        return False
    return True


def _check_room(size: int, name: str) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    if (lack := lack_of_space({Path(HF_HUB_CACHE): size})) is not None:
        raise BaseError(
            f'The base "{name}" is a download of {size / 1e9:.1f} GB, and {existing_parent(lack.folder)} has '
            f"{lack.free / 1e9:.1f} GB left. Free some disk space, or let HF_HOME name a folder elsewhere."
        )
