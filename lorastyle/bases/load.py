"""Find a base by name and load it: the embedded one, a folder, a file, or a model of the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import torch

from lorastyle.errors import BaseError, near_miss

from .default import default_base
from .family import family_from_width
from .folder import PARTS, BaseFolder, inspect_folder
from .pipelines import open_pipeline
from .precision import best_device, compute_dtype
from .quiet import quiet
from .single_file import check_prediction_type, inspect_checkpoint, read_checkpoint
from .stable_diffusion import StableDiffusion

EMBEDDED = Path(__file__).with_name("embedded")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_NOT_NEEDED_XL: dict[str, None] = {"feature_extractor": None, "image_encoder": None}
_NOT_NEEDED: dict[str, None] = {"safety_checker": None, **_NOT_NEEDED_XL}  # nor downloaded
_TEXT_MODELS = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}


def load_base(
    name: str | None = None,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    prediction_type: str | None = None,
) -> StableDiffusion:
    """Load a base, frozen and in eval mode.

    Args:
        name: "embedded", the folder of a Stable Diffusion pipeline (1.x, 2.x or XL, text to image or
            inpainting), a checkpoint of one in a `.safetensors` file, or a Hub id such as
            "stable-diffusion-v1-5/stable-diffusion-v1-5" (taken from the local cache when it is there). None
            means `default_base()`.
        device: "cpu", "cuda", "cuda:1", "mps"; None takes the best there is.
        dtype: what the UNet computes in; None asks `compute_dtype`. The other parts stay float32.
        prediction_type: "epsilon" or "v_prediction", where you know better than the folder or the file.

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
    # On a CPU the weights are float32 and autocast rounds them; elsewhere memory is the scarcer thing.
    stored = torch.float32 if target.type == "cpu" else dtype
    path = _locate(name)
    if path.is_file():
        pipe, family = _read_file(path, name, target, stored, prediction_type)
    else:
        folder = inspect_folder(path, name)
        pipe, family = _read(folder, name), folder.family
        _override(pipe, prediction_type)
    with quiet():
        pipe.unet.to(stored)
        return open_pipeline(pipe.to(target), name=name, family=family, dtype=dtype)


def _read_file(
    path: Path, name: str, device: torch.device, dtype: torch.dtype, prediction_type: str | None
) -> tuple[Any, str]:
    """The pipeline of a checkpoint file, and its family."""
    checkpoint = inspect_checkpoint(path, name, prediction_type=prediction_type)
    with quiet():
        pipe = read_checkpoint(checkpoint, device=device, dtype=dtype)
    return pipe, family_from_width(checkpoint.text_width)


def _override(pipe: Any, prediction_type: str | None) -> None:
    if prediction_type is not None:
        chosen = {"prediction_type": check_prediction_type(prediction_type)}
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **chosen)


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
    if path.is_dir() or path.is_file():
        return path
    if _HUB_ID.fullmatch(name) and path.suffix not in (".safetensors", ".ckpt"):
        return _from_hub(name)
    parent = path.parent
    around = list(parent.iterdir()) if parent.is_dir() else []
    beside = [entry.name for entry in around if entry.is_dir() or entry.suffix == ".safetensors"]
    raise BaseError(
        f'There is no base "{name}". A base is "embedded", a folder with a model_index.json, a checkpoint '
        f"(.safetensors), or a Hub id (owner/name).{near_miss(path.name, ['embedded', *beside])}"
    )


def _from_hub(name: str) -> Path:
    """The cached folder of a Hub model; only what is not cached yet is downloaded."""
    with quiet():
        from diffusers.pipelines.pipeline_utils import DiffusionPipeline

        download = cast(Any, DiffusionPipeline.download)
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
        import diffusers
        import transformers

        chosen: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
        if folder.variant is not None:
            chosen["variant"] = folder.variant
        encoders: dict[str, Any] = {}
        lost: list[str] = []
        try:
            for part in (part for part in PARTS[folder.kind] if part in _TEXT_MODELS):
                encoders[part], report = getattr(transformers, _TEXT_MODELS[part]).from_pretrained(
                    folder.path / part, output_loading_info=True, **chosen
                )
                lost += [f"{part}.{key}" for key in report["missing_keys"] if "position_ids" not in key]
            unused = _NOT_NEEDED_XL if "text_encoder_2" in encoders else _NOT_NEEDED
            pipe = getattr(diffusers, folder.kind).from_pretrained(
                folder.path, **encoders, **chosen, **unused
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise BaseError(
                f'The base "{name}" cannot be loaded from {folder.path}: {why} '
                'Get the folder again, or try "embedded".'
            ) from error
    # transformers fills what is missing with random numbers, diffusers leaves it empty; neither fails
    for part in ("unet", "vae"):
        lost += [f"{part}.{key}" for key, value in getattr(pipe, part).named_parameters() if value.is_meta]
    if lost:
        raise BaseError(
            f'The base "{name}" lacks {len(lost)} of its weights, the first is {lost[0]}. Get it again.'
        )
    return pipe
