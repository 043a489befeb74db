"""Look at a pipeline's folder before loading it, so that what is wrong gets a sentence."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lorastyle.adapters import read_header
from lorastyle.errors import AdapterFileError, BaseError

from .family import SUPPORTED, family_from_width
from .inputs import LATENT_CHANNELS, is_inpainting, refuse_other_pipeline
from .pipeline_parts import CLASSES, PIPELINES, supported

_ONE_ENCODER = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_TWO_ENCODERS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
PARTS = {name: _TWO_ENCODERS if "XL" in name else _ONE_ENCODER for name in PIPELINES}
_LIBRARIES = ("diffusers", "transformers")
_ABSENT = object()
_CONVERT = (  # torch.load with weights_only=True, whatever torch's version: diffusers asks for it
    "import sys; from diffusers import DiffusionPipeline as P; "
    "P.from_pretrained(sys.argv[1], safety_checker=None).save_pretrained(sys.argv[2])"
)
_PREDICTIONS = ("epsilon", "v_prediction", "sample")
COMPONENTS = tuple(dict.fromkeys(part for parts in PARTS.values() for part in parts))
VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))


@dataclass(frozen=True)
class BaseFolder:
    """A folder that can be loaded, and what its small files say."""

    path: Path
    kind: str  # the pipeline's class in diffusers
    family: str
    variant: str | None  # "fp16" where there are only files of that variant
    inpainting: bool  # the UNet reads a mask and the masked picture as well, whatever the class


def inspect_folder(path: Path, name: str) -> BaseFolder:
    """Check the folder of a Stable Diffusion pipeline: its parts, its family, its weight files' headers.

    Raises:
        BaseError: not a pipeline's folder, another kind of pipeline or UNet, a missing part, weights that are
            missing, pickled or cut short; `name` is what the user called it.
    """
    index = read_index(path / "model_index.json", name)
    kind = str(index.get("_class_name", "pipeline of no class"))
    check_kind(kind, name)
    parts = PARTS[kind]
    missing = [part for part in parts if not (path / part).is_dir()]
    if missing:
        raise BaseError(
            f'The base "{name}" lacks {_and(missing)}: a {kind} has the folders {_and(parts)}. '
            "Copy or download the whole folder again."
        )
    for part in parts:
        _check_entry(index.get(part, _ABSENT), part, name)
    for part in (part for part in parts if part.startswith("tokenizer")):
        if not any(all((path / part / file).is_file() for file in files) for files in VOCABULARIES):
            raise BaseError(
                f'The base "{name}" has no vocabulary in {part}/ ({" or ".join(map(_and, VOCABULARIES))}), '
                "so it would not heed a word. Copy or download the whole folder again."
            )
    with_weights = [part for part in parts if part.startswith(("unet", "vae", "text_encoder"))]
    configs = {
        part: _read_json(path / part / "config.json", name, f"The {part} cannot be built")
        for part in with_weights
    }
    schedule = _read_json(
        path / "scheduler" / "scheduler_config.json", name, "Its noise schedule is not known"
    )
    _check_schedule(configs["vae"], schedule, name)
    variants = {_check_weights(path / part, name) for part in with_weights}
    own = path / "lorastyle.json"
    family = _read_json(own, name, "It is damaged").get("family") if own.exists() else None
    return BaseFolder(
        path,
        kind,
        family if isinstance(family, str) else family_from_width(_text_width(configs["unet"], name)),
        "fp16" if variants == {"fp16"} else None,
        is_inpainting(
            name,
            _channels(configs["unet"], "in_channels", name),
            _channels(configs["vae"], "latent_channels", name),
        ),
    )


def check_kind(kind: str, name: str) -> None:
    """Is this class of diffusers, as a model_index.json names it, one that lorastyle draws with?

    Raises:
        BaseError: it is not.
    """
    if kind not in PARTS:
        refuse_other_pipeline(name, kind)
        raise BaseError(f'The base "{name}" is a {kind}. {supported()}.')


def check_index(path: Path, name: str) -> None:
    """The same of a model_index.json, and of the classes of its parts.

    Raises:
        BaseError: a class that lorastyle does not draw with, or the file cannot be read.
    """
    index = read_index(path, name)
    kind = str(index.get("_class_name", "pipeline of no class"))
    check_kind(kind, name)
    for part in PARTS[kind]:
        _check_entry(index.get(part, _ABSENT), part, name)


def read_index(path: Path, name: str) -> Mapping[str, object]:
    """A model_index.json. Raises BaseError where it cannot be read."""
    return _read_json(path, name, "That is no folder of a diffusers pipeline")


def _check_entry(entry: object, part: str, name: str) -> None:
    """What an index says of a part is imported by that name, so it is checked first."""
    words = cast("list[object]", entry) if isinstance(entry, list) else []
    if len(words) != 2 or words[0] not in _LIBRARIES or not isinstance(words[1], str):
        shown = "nothing" if entry is _ABSENT else json.dumps(entry)[:80]
        raise BaseError(
            f'The base "{name}" has {shown} for its {part} in model_index.json, where a class of '
            f"{_or(list(_LIBRARIES))} is needed. Copy or download the whole folder again."
        )
    if part in CLASSES and words[1] not in CLASSES[part]:
        raise BaseError(
            f'The base "{name}" has a {part} of the class {words[1]}, where a {_or(list(CLASSES[part]))} is '
            f"needed. {supported()}."
        )


def _check_schedule(vae: Mapping[str, object], schedule: Mapping[str, object], name: str) -> None:
    """Refuse what has the parts of Stable Diffusion and another noise: it would draw, and draw rubbish."""
    own = str(schedule.get("_class_name", ""))
    told = schedule.get("prediction_type", "epsilon")
    if told not in (*_PREDICTIONS, "flow_prediction"):
        raise BaseError(
            f'The base "{name}" has a scheduler_config.json whose prediction_type is {told!r}; allowed are '
            f"{_and(_PREDICTIONS)}. Write the right one there, or get the folder again."
        )
    if own.startswith(("EDM", "FlowMatch")) or schedule.get("prediction_type") == "flow_prediction":
        why = f"its scheduler is {own}"
    elif vae.get("latents_mean") is not None or vae.get("latents_std") is not None:
        why = "its VAE has a mean and a deviation for each channel"
    else:
        return
    raise BaseError(
        f'The base "{name}" has another noise schedule than Stable Diffusion ({why}), as Playground 2.5 and '
        f"flow models have. lorastyle does not draw with these yet ({SUPPORTED})."
    )


def _channels(config: Mapping[str, object], key: str, name: str) -> int:
    channels = config.get(key, LATENT_CHANNELS)  # diffusers' own default
    if not isinstance(channels, int):
        raise BaseError(f'The base "{name}" has a config whose {key} is {channels!r}; a number is needed.')
    return channels


def _text_width(unet: Mapping[str, object], name: str) -> int:
    width = unet.get("cross_attention_dim")
    if not isinstance(width, int):
        raise BaseError(
            f'The base "{name}" has a UNet whose cross_attention_dim is {width!r}; one whole number is '
            f"needed ({SUPPORTED})."
        )
    return width


def _check_weights(folder: Path, name: str) -> str | None:
    """The variant of the weights in `folder`, after reading their headers."""
    files = sorted(folder.glob("*.safetensors"))
    plain = [file for file in files if ".fp16" not in file.name and ".non_ema" not in file.name]
    if not files:
        pickled = sorted(file.name for file in folder.iterdir() if file.suffix in {".bin", ".ckpt", ".pt"})
        raise BaseError(
            f'The base "{name}" has no weights (*.safetensors) in {folder.name}/'
            + (f", only {_and(pickled)}: pickles can run code and are not opened" if pickled else "")
            + ". Get the folder again, with its safetensors files"
            + (
                f", or convert it by PyTorch's restricted reader: {_conversion(folder.parent)}"
                if pickled
                else "."
            )
        )
    for file in plain or files:
        try:
            read_header(file)
        except AdapterFileError as error:
            raise BaseError(f'The base "{name}" has damaged weights. {error}') from error
    for index in folder.glob("*.safetensors.index*.json"):
        _check_shards(index, {file.name for file in files}, name)
    return None if plain else "fp16"


def _conversion(folder: Path) -> str:
    """A command that writes the whole pipeline anew; the paths stay outside the code."""
    old, new = shlex.quote(str(folder)), shlex.quote(f"{folder}-converted")
    return f'python -c "{_CONVERT}" {old} {new}'


def _check_shards(index: Path, files: set[str], name: str) -> None:
    placed = _read_json(index, name, "Which of its files holds what is not known").get("weight_map")
    shards = set(cast("dict[str, str]", placed).values()) if isinstance(placed, dict) else set[str]()
    # of an index whose variant is not here, no shard is
    if (lost := sorted(shards - files)) and len(lost) < len(shards):
        raise BaseError(
            f'The base "{name}" lacks {lost[0]} in {index.parent.name}/, one of {len(shards)} shards. '
            "Copy or download the whole folder again."
        )


def _read_json(path: Path, name: str, consequence: str) -> Mapping[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        above = path.parent.parent / "model_index.json"
        step = f'Name the folder above: "{above.parent}"' if above.is_file() else "Get the folder again"
        if path.parent.name in COMPONENTS and path.name != "model_index.json":
            step = "Copy or download the whole folder again"
        raise BaseError(
            f'The base "{name}" has no {path.name} in {path.parent}. {consequence}. {step}.'
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BaseError(f"{path} cannot be read ({error}). {consequence}; get the folder again.") from error
    if not isinstance(content, dict):
        raise BaseError(f"{path} holds no JSON object. {consequence}; get the folder again.")
    return cast("dict[str, object]", content)


def _and(words: list[str] | tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _or(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
