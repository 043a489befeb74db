"""An adapter of the Hub: its file in the local cache, or one sentence why not.

`pull` is for what somebody typed; `cached` for what a picture or a page says, which starts no download.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from lorastyle.adapters import CONFIGS, adapter_folder_files, lack_of_space
from lorastyle.errors import AdapterError, near_miss

from .names import HubAdapter
from .reasons import why

LARGEST = 4 * 10**9  # bytes; an SDXL adapter of rank 256 with its convolutions has 3
_USUAL = "pytorch_lora_weights.safetensors"  # what diffusers' programs write
_OF_A_BASE = ("unet/", "vae/", "text_encoder/", "text_encoder_2/", "safety_checker/", "transformer/")
_OF_A_RUN = ("checkpoint", "optimizer", "scheduler", "random_states")


def pull(name: str) -> tuple[str, Path] | None:
    """Fetch the adapter that `name` means on the Hub; None where it is no name of the Hub's.

    A file that is named and is in the cache is taken without a word to the network. Where none is named, the
    network is asked which there are, and without it what the cache has is taken.

    Returns:
        The name with the file in it, so that it says the same tomorrow, and where it lies here.

    Raises:
        AdapterError: no such model, revision or file, several to choose from, none at all, a token is
            needed, no network, or a file too large for an adapter.
    """
    asked = HubAdapter.parse(name)
    if asked is None:
        return None
    here = cached(name) if asked.file else None
    if here is not None:
        return name, here
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        info = api.model_info(asked.repo, revision=asked.revision, files_metadata=True)
        sizes = {item.rfilename: item.size or 0 for item in info.siblings or ()}
        if asked.file is None and (parts := adapter_folder_files(sizes)):
            _check_space(name, sum(sizes[part] for part in parts))
            folder = api.snapshot_download(asked.repo, revision=asked.revision, allow_patterns=parts)
            return name, Path(folder)
        found = replace(asked, file=_choose(asked, sizes))
        if _in_cache(found, str(found.file)) is None:
            _check_space(name, sizes[str(found.file)])
        path = api.hf_hub_download(found.repo, str(found.file), revision=found.revision)
        return str(found), Path(path)
    except AdapterError:
        raise
    except Exception as error:  # httpx, requests and huggingface_hub each raise kinds of their own
        if (here := cached(name)) is not None:
            return name, here
        reason = why(error, asked.repo, asked.revision, api, instead="name a file that is here")
        raise AdapterError(
            f'The adapter "{name}" is no file here and not in the local cache; {reason}'
        ) from error


def _check_space(name: str, size: int) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    if (lack := lack_of_space({Path(HF_HUB_CACHE): size})) is not None:
        raise AdapterError(
            f'The adapter "{name}" cannot be downloaded to {HF_HUB_CACHE}: too little disk space ({lack}). '
            "Free some, or let HF_HOME name a folder on another disk."
        )


def cached(name: str) -> Path | None:
    """Where the local cache has the adapter of this name: a file, or a peft folder; asks no network."""
    asked = HubAdapter.parse(name)
    if asked is None:
        return None
    if asked.file is not None:
        return _in_cache(asked, asked.file)
    for config in CONFIGS:
        if (found := _in_cache(asked, config)) is not None:
            return found.parents[config.count("/")]
    return None


def _in_cache(asked: HubAdapter, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    found = try_to_load_from_cache(asked.repo, file, revision=asked.revision, cache_dir=HF_HUB_CACHE)
    return Path(found) if isinstance(found, str) else None


def _choose(asked: HubAdapter, sizes: Mapping[str, int]) -> str:
    adapters = sorted(file for file in sizes if _may_be_adapter(file))
    if asked.file is not None:
        if asked.file not in sizes:
            there = f"It has {', '.join(adapters[:10])}." if adapters else "It has none."
            raise AdapterError(
                f"{asked.repo} has no file {asked.file!r}. {there}{near_miss(asked.file, adapters)}"
            )
        chosen = asked.file
    elif _USUAL in adapters:
        chosen = _USUAL
    elif len(adapters) == 1:
        chosen = adapters[0]
    elif adapters:
        more = ", ..." if len(adapters) > 10 else ""
        raise AdapterError(
            f"{asked.repo} has {len(adapters)} adapters: {', '.join(adapters[:10])}{more}. "
            f"Name one: -a {replace(asked, file=adapters[0])}"
        )
    elif "model_index.json" in sizes:
        raise AdapterError(f"{asked.repo} is a base, not an adapter. Draw with it: --base {asked}")
    else:
        pickled = next((f for f in sizes if f.endswith((".bin", ".ckpt", ".pt"))), None)
        told = f", only {pickled}: pickles can run code and are not opened" if pickled else ""
        raise AdapterError(f"{asked.repo} has no adapter (*.safetensors){told}. Choose another.")
    if sizes[chosen] > LARGEST:
        raise AdapterError(
            f"{replace(asked, file=chosen)} is {sizes[chosen] / 1e9:.1f} GB, more than an adapter is: a "
            "whole model, it seems. Download it by hand and name it with --base."
        )
    return chosen


def _may_be_adapter(file: str) -> bool:
    name = PurePosixPath(file).name
    return (
        file.endswith(".safetensors") and not file.startswith(_OF_A_BASE) and not name.startswith(_OF_A_RUN)
    )
