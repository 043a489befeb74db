"""Find a base by name and load it: the embedded one, a folder, or a model of the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, cast

import torch

from lorastyle.errors import BaseError, near_miss

from .folder import BaseFolder, inspect_folder
from .precision import best_device, compute_dtype
from .quiet import quiet
from .stable_diffusion import StableDiffusion

EMBEDDED = Path(__file__).with_name("embedded")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_NOT_NEEDED: dict[str, None] = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}


def default_base() -> str:
    """The base that is meant when none is named: LORASTYLE_BASE, else "embedded"."""
    return os.environ.get("LORASTYLE_BASE") or "embedded"


def load_base(
    name: str | None = None, *, device: str | None = None, dtype: torch.dtype | None = None
) -> StableDiffusion:
    """Load a base, frozen and in eval mode.

    Args:
        name: "embedded", the folder of a diffusers StableDiffusionPipeline, or a Hub id such as
            "stable-diffusion-v1-5/stable-diffusion-v1-5" (taken from the local cache when it is there).
            None means the environment's LORASTYLE_BASE, else "embedded".
        device: "cpu", "cuda", "cuda:1", "mps"; None takes the best there is.
        dtype: what the UNet computes in; None asks `compute_dtype`. The other parts stay float32.

    Raises:
        BaseError: no such base, no network, a part missing, weights damaged, or an unsupported family.
    """
    name = default_base() if name is None else name
    target = _device(device)
    dtype = compute_dtype(target) if dtype is None else dtype
    if target.type == "cpu" and dtype == torch.float16:
        raise BaseError(
            "float16 on a CPU is about 100 times slower than float32. Use torch.float32 or torch.bfloat16."
        )
    folder = inspect_folder(_locate(name), name)
    pipe = _read(folder, name)
    with quiet():
        # On a CPU the weights are float32 and autocast rounds them; elsewhere memory is the scarcer thing.
        pipe.unet.to(torch.float32 if target.type == "cpu" else dtype)
        return StableDiffusion(pipe.to(target), name=name, family=folder.family, dtype=dtype)


def _device(device: str | None) -> torch.device:
    if device is None:
        return best_device()
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise BaseError(
            f'The device "{device}" cannot be used ({why}). Use "cpu", or leave it out.'
        ) from error
    return target


def _locate(name: str) -> Path:
    if name == "embedded":
        return EMBEDDED
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise BaseError(
            f'The base "{name}" is a file. lorastyle loads a folder in diffusers form: convert a checkpoint '
            "with StableDiffusionPipeline.from_single_file(file).save_pretrained(folder)."
        )
    if _HUB_ID.fullmatch(name):
        return _from_hub(name)
    parent = path.parent
    beside = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
    raise BaseError(
        f'There is no base "{name}". A base is "embedded", a folder with a model_index.json, or a Hub id '
        f"(owner/name).{near_miss(path.name, ['embedded', *beside])}"
    )


def _from_hub(name: str) -> Path:
    """The cached folder of a Hub model; only what is not cached yet is downloaded."""
    with quiet():
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

        download = cast(Any, StableDiffusionPipeline.download)
        try:
            return Path(download(name, local_files_only=True, use_safetensors=True, **_NOT_NEEDED))
        except Exception:  # whatever the cache lacks, the Hub may have; its answer is the one to report
            try:
                return Path(download(name, use_safetensors=True, **_NOT_NEEDED))
            except Exception as error:
                raise _hub_error(name, error) from error


def _hub_error(name: str, error: Exception) -> BaseError:
    """One sentence for what went wrong, wherever in the chain of causes it is told."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    kinds = " ".join(type(item).__name__ for item in chain)
    text = " ".join(str(item) for item in chain)
    start = f'The base "{name}" is no folder here and not in the local cache; '
    if "Gated" in kinds:
        return BaseError(
            start + "on the Hub it is gated. Accept its terms on its page, then `hf auth login`."
        )
    if "RepositoryNotFound" in kinds or "404" in text:
        return BaseError(start + "the Hub has no such public model. Check the spelling, or `hf auth login`.")
    if "Offline" in kinds or "offline" in text.lower():
        return BaseError(start + 'the Hub is switched off by HF_HUB_OFFLINE. Unset it, or use "embedded".')
    if re.search(r"Connect|Timeout|NameResolution|LocalEntryNotFound", kinds) or "connect" in text.lower():
        return BaseError(
            start + 'the Hub cannot be reached. Check the network, or use "embedded" or a folder.'
        )
    return BaseError(f"{start}fetching it failed: {str(error).splitlines()[0] if str(error) else kinds}")


def _read(folder: BaseFolder, name: str) -> Any:
    with quiet():
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
        from transformers import CLIPTextModel

        chosen: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
        if folder.variant is not None:
            chosen["variant"] = folder.variant
        try:
            text_encoder, report = cast(Any, CLIPTextModel).from_pretrained(
                folder.path / "text_encoder", output_loading_info=True, **chosen
            )
            pipe = cast(Any, StableDiffusionPipeline).from_pretrained(
                folder.path, text_encoder=text_encoder, **chosen, **_NOT_NEEDED
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise BaseError(
                f'The base "{name}" cannot be loaded from {folder.path}: {why} '
                'Get the folder again, or try "embedded".'
            ) from error
    # transformers fills what is missing with random numbers, diffusers leaves it empty; neither fails
    lost = [f"text_encoder.{key}" for key in report["missing_keys"] if "position_ids" not in key]
    for part in ("unet", "vae"):
        lost += [f"{part}.{key}" for key, value in getattr(pipe, part).named_parameters() if value.is_meta]
    if lost:
        raise BaseError(
            f'The base "{name}" lacks {len(lost)} of its weights, the first is {lost[0]}. Get it again.'
        )
    channels, expected = int(pipe.unet.config.in_channels), int(pipe.vae.config.latent_channels)
    if channels != expected:
        raise BaseError(
            f'The base "{name}" has a UNet with {channels} input channels where {expected} are needed: an '
            "inpainting or editing model. Choose its text-to-image sibling."
        )
    return pipe
