"""Whether a pipeline is one that lorastyle draws and trains with.

Its parts decide, since subclasses and community pipelines have names of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from lorastyle.errors import BaseError

from .family import SUPPORTED
from .inputs import refuse_other_pipeline

PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLInpaintPipeline",
)
"""Classes of diffusers."""

UNET = ("UNet2DConditionModel",)
TEXT = ("CLIPTextModel", "CLIPTextModelWithProjection")
CLASSES: Mapping[str, tuple[str, ...]] = {"unet": UNET, "text_encoder": TEXT, "text_encoder_2": TEXT}
"""{part: the classes that it may be of}"""

_NEEDED = ("unet", "vae", "scheduler")
_READERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
_IDLE = ("safety_checker", "feature_extractor", "image_encoder", "watermark")
"""Parts that change nothing of what is drawn from words."""
_INSTEAD = {"transformer": "a transformer", "prior": "a prior", "decoder": "a decoder"}


def supported() -> str:
    """The pipelines that can be opened, for messages."""
    *first, last = PIPELINES
    return f"lorastyle opens {SUPPORTED}: {', '.join(first)} or {last}"


def check_parts(pipe: Any, name: str) -> None:
    """Are these the parts of Stable Diffusion 1.x, 2.x or XL, and none besides that would be left out?

    Args:
        name: what the user calls it.

    Raises:
        BaseError: they are not; with the pipeline's class, what is different, and what is allowed.
    """
    kind = type(pipe).__name__
    for problem in _problems(pipe):
        refuse_other_pipeline(name, kind)
        raise BaseError(f'The base "{name}" is a {kind}, {problem}. {supported()}.')


def _problems(pipe: Any) -> Iterator[str]:
    parts = _parts(pipe)
    for part, what in _INSTEAD.items():
        if part in parts and "unet" not in parts:
            yield f"which has {what} ({type(parts[part]).__name__}) instead of a UNet"
    for part in _NEEDED:
        if part not in parts:
            yield f"which has no {part}"
    if not any(part in parts for part in _READERS):
        yield "which has no text encoder"
    for part, tokenizer in _READERS.items():
        if part in parts and tokenizer not in parts:
            yield f"which has no {tokenizer}"
    for part, allowed in CLASSES.items():
        if part in parts and not is_one_of(parts[part], allowed):
            yield f"whose {part} is a {type(parts[part]).__name__}, where a {' or '.join(allowed)} is needed"
    own = (*_READERS, *_READERS.values())
    if other := [part for part in parts if part not in (*_NEEDED, *own, *_IDLE)]:
        yield f"which would be drawn without its {' and its '.join(other)}"
    hidden = _config(parts["unet"]).get("encoder_hid_dim_type")
    if hidden is not None:
        yield f"whose UNet also reads something else than a prompt ({hidden})"
    if (channels := _config(parts["vae"]).get("out_channels", 3)) != 3:
        yield f"whose autoencoder makes {channels} channels, where 3 are needed"


def _parts(pipe: Any) -> dict[str, object]:
    """What a pipeline is made of, without what is None."""
    listed = getattr(pipe, "components", None)
    names = (
        [str(name) for name in cast("Mapping[object, object]", listed)] if isinstance(listed, Mapping) else []
    )
    known = (
        *names,
        *_NEEDED,
        *_READERS,
        *_READERS.values(),
        *_INSTEAD,
        "text_encoder_3",
        "controlnet",
        "motion_adapter",
    )
    return {
        name: part
        for name in dict.fromkeys(known)
        if (part := getattr(pipe, name, None)) is not None and not isinstance(part, (bool, int, float, str))
    }


def is_one_of(part: object, names: tuple[str, ...]) -> bool:
    """Whether a part is of one of these classes, a subclass, or a compiled module of one."""
    part = getattr(part, "_orig_mod", part)
    return any(cls.__name__ in names for cls in type(part).__mro__)


def _config(part: object) -> Mapping[str, Any]:
    config = getattr(part, "config", None)
    return cast("Mapping[str, Any]", config) if isinstance(config, Mapping) else {}
