"""Find a base by name and load it: the embedded one, a folder, a file, or a model of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lorastyle.errors import BaseError, near_miss
from lorastyle.hub import split_hub_id

from .default import default_base
from .family import family_from_width
from .folder import PARTS, BaseFolder, inspect_folder
from .hub import fetch
from .loaded_file import LoadedFile
from .memory import AUTO, memory_mode
from .needs import choose_for_drawing
from .pipelines import open_pipeline
from .placement import HOME
from .precision import best_device, compute_dtype
from .quiet import quiet
from .single_file import check_prediction_type, inspect_checkpoint, read_checkpoint
from .stable_diffusion import StableDiffusion
from .weight_files import WeightFiles

_SUFFIX = ".safetensors"
EMBEDDED = Path(__file__).with_name("embedded")
_NOT_NEEDED_XL: dict[str, None] = {"feature_extractor": None, "image_encoder": None}
_NOT_NEEDED: dict[str, None] = {"safety_checker": None, **_NOT_NEEDED_XL}
_TEXT_MODELS = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}


def load_base(
    name: str | None = None,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    memory: str | None = AUTO,
    prediction_type: str | None = None,
) -> StableDiffusion:
    """Load a base, frozen and in eval mode.

    Args:
        name: "embedded", the folder of a Stable Diffusion pipeline (1.x, 2.x or XL, text to image or
            inpainting), a checkpoint of one in a `.safetensors` file, or a Hub id such as
            "stable-diffusion-v1-5/stable-diffusion-v1-5", with "@revision" where it matters (from the local
            cache when it is there). None: `default_base()`.
        device: "cpu", "cuda", "cuda:1", "mps"; None takes the best there is.
        dtype: what the UNet computes in; None asks `compute_dtype`. The other parts stay float32.
        memory: how it is kept, one of `MODES`; "auto" chooses what fits the device for drawing. Either way,
            `images_at_once` says how many images of the base's own size fit. None leaves
            the choice to `base.placement.arrange`; until then everything waits in the machine's memory.
        prediction_type: "epsilon" or "v_prediction", where you know better than the folder or the file.

    Raises:
        BaseError: no such base, no network, a part missing, weights damaged, or an unsupported family; or
            nothing fits the device's memory.
        ConfigError: no such memory mode.
    """
    if memory not in (None, AUTO):
        memory_mode(memory)
    name = default_base() if name is None else name
    target = _device(device)
    dtype = compute_dtype(target) if dtype is None else dtype
    if target.type == "cpu" and dtype == torch.float16:
        raise BaseError(
            "float16 on a CPU is about 100 times slower than float32. Use torch.float32 or torch.bfloat16."
        )
    # On a CPU the weights are float32 and autocast rounds them; elsewhere memory is the scarcer thing.
    stored = torch.float32 if target.type == "cpu" else dtype
    path = locate(name)
    files = WeightFiles.of(path)  # before they are read: what replaces one meanwhile is another
    file: LoadedFile | None = None
    if path.is_file():
        file = LoadedFile.of(path)
        there = target if memory == "fast" else HOME
        pipe, family = _read_file(path, name, there, stored, prediction_type)
    else:
        folder = inspect_folder(path, name)
        pipe, family = _read(folder, name), folder.family
        _override(pipe, prediction_type)
    with quiet():
        pipe.unet.to(stored)
        base = open_pipeline(pipe, name=name, family=family, dtype=dtype, device=target)
        base.file, base.files = file, files
        if memory is not None:
            # before anything is moved: the weights count as what is still to be placed
            choice = choose_for_drawing(base, mode=None if memory == AUTO else memory)
            base.images_at_once = choice.pictures
            base.placement.arrange(choice.mode)
    return base


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


def _first_line(error: Exception) -> str:
    """What a library says, without its last full stop."""
    if isinstance(error, KeyError):  # says but the key
        return f"its files have no {error}"
    lines = (line.strip() for line in str(error).splitlines())
    return next((line.removesuffix(".") for line in lines if line), type(error).__name__)


def _device(device: str | None) -> torch.device:
    if device is None:
        return _numbered(best_device())
    try:
        target = _numbered(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise BaseError(
            f'The device "{device}" cannot be used ({why}). Use "cpu", or leave it out.'
        ) from error
    return target


def _numbered(device: torch.device) -> torch.device:
    """As its tensors name it: "cuda" is cuda:0."""
    return torch.empty(0, device=device).device


def locate(name: str) -> Path:
    """The folder or checkpoint file that a base's name means, fetched where it is a Hub id.

    Raises:
        BaseError: there is none.
    """
    if name == "embedded":
        return EMBEDDED
    path = Path(name).expanduser()
    if path.is_dir() or path.is_file():
        return path
    if (hub_id := split_hub_id(name)) is not None:
        return fetch(*hub_id, name)
    if path.is_symlink():
        raise BaseError(
            f'The base "{name}" is a link that leads to no file. Mend it, or name the file itself.'
        )
    parent = path.parent
    around = list(parent.iterdir()) if parent.is_dir() else []
    beside = [entry.name for entry in around if entry.is_dir() or entry.suffix == _SUFFIX]
    raise BaseError(
        f'There is no base "{name}". A base is "embedded", a folder with a model_index.json, a checkpoint '
        "(.safetensors), or a Hub id (owner/name, owner/name@revision)."
        + near_miss(path.name, ["embedded", *beside], ending=_SUFFIX)
    )


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
            raise BaseError(
                f'The base "{name}" cannot be loaded from {folder.path}: {_first_line(error)}. '
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
