"""Which family's checkpoint a file is, told from the names of its tensors; or what else it is.

People have folders full of `.safetensors` files, and every kind of them gets named as a base sooner or later.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from .other_families import OTHER_FAMILIES
from .parts import LayoutError


@dataclass(frozen=True)
class Kind:
    """A family, and what its tensors do not show.

    Attributes:
        text: what the names of its text encoder start with; the family is told from it.
        head_size: channels of one attention head in the UNet; None: eight heads everywhere.
        scaling_factor: of latents, so that they have about unit variance.
        scheduler: class in diffusers that the makers' own folder names.
        resolution: native side in pixels.
    """

    id: str
    title: str
    text: str
    head_size: int | None
    scaling_factor: float
    scheduler: str
    resolution: int


KINDS = (
    Kind(
        "sdxl", "Stable Diffusion XL", "conditioner.embedders.1.model.", 64, 0.13025,
        "EulerDiscreteScheduler", 1024,
    ),
    Kind(
        "sd2", "Stable Diffusion 2.x", "cond_stage_model.model.", 64, 0.18215, "DDIMScheduler", 768,
    ),
    Kind(
        "sd1", "Stable Diffusion 1.x", "cond_stage_model.transformer.", None, 0.18215, "PNDMScheduler", 512,
    ),
)  # fmt: skip

SUPPORTED = "a whole checkpoint of Stable Diffusion 1.x, 2.x or XL"
_WHOLE = f"Choose {SUPPORTED}"

# (a name that gives it away, what it is, the next step); the first that fits is the one to tell
_OTHERS: tuple[tuple[str, str, str], ...] = (
    (
        r"lora_|\.lora\.|_lora\.|hada_w|lokr_|^oft_|dora_scale",
        "an adapter, not a base",
        "Draw with it by --adapter, and name the base that it was made for",
    ),
    *((rf"^(?:[\w.]*\.)?(?:{pattern})", f"{title} model", _WHOLE) for pattern, title in OTHER_FAMILIES),
    (r"^(control_model\.|input_hint_block\.|controlnet_)", "a ControlNet", _WHOLE),
    (
        r"^conditioner\.embedders\.0\.model\.",
        "the refiner of Stable Diffusion XL, which only finishes pictures",
        "Choose the base model of Stable Diffusion XL",
    ),
    (r"motion_modules|time_stack|temporal_transformer|time_mixer", "a video model", _WHOLE),
    (r"^edm_mean$", "Playground 2.5, whose noise schedule is another", _WHOLE),
    (
        r"^depth_model\.",
        "a depth-to-image model, which follows a map of distances",
        "Choose its text-to-image or its inpainting sibling",
    ),
    (r"^(embedder\.|noise_augmentor\.)", "an unCLIP model, which draws from a picture", _WHOLE),
    (r"\.(absmax|quant_map|scale_weight|weight_scale|qweight)$", "quantised", "Get it in float16 or float32"),
)
# where there is no UNet with the original names
_LONELY: tuple[tuple[str, str, str], ...] = (
    (
        r"^model_ema\.diffusion_model",
        "a checkpoint whose UNet is there as averaged (EMA) weights only",
        f"{_WHOLE}, with model.diffusion_model",
    ),
    (r"^(emb_params|string_to_param|clip_[lg])$", "an embedding (textual inversion), not a base", _WHOLE),
    (
        r"^(unet\.)?(down_blocks|up_blocks|mid_block|conv_in)\.",
        "the UNet of a diffusers folder, without its text encoder and autoencoder",
        "Name the folder it came from, the one with a model_index.json",
    ),
    (
        r"^(diffusion_model\.)?(input_blocks|output_blocks)\.",
        "a UNet alone, without its text encoder and autoencoder",
        _WHOLE,
    ),
    (
        r"^(first_stage_model\.|vae\.)?(encoder|decoder)\.(down|up|mid|down_blocks|up_blocks|mid_block)\b",
        "an autoencoder (VAE) alone, not a base",
        _WHOLE,
    ),
    (
        r"(text_model\.|resblocks\.|shared\.weight$|encoder\.block\.)",
        "a text encoder alone, not a base",
        _WHOLE,
    ),
)


def tell_kind(names: Collection[str]) -> Kind:
    """The family whose names these are.

    Raises:
        LayoutError: it is none that lorastyle draws with; what it is instead, and the next step.
    """
    whole = any(name.startswith("model.diffusion_model.input_blocks.") for name in names)
    for pattern, what, step in (*_OTHERS, *(() if whole else _LONELY)):
        if any(re.search(pattern, name) for name in names):
            raise LayoutError(f"it is {what}. {step}")
    if not whole:
        shown = ", ".join(repr(name) for name in list(names)[:3]) or "no tensor"
        raise LayoutError(f"it is no Stable Diffusion checkpoint in one file; it holds {shown}. {_WHOLE}")
    kind = next((kind for kind in KINDS if any(name.startswith(kind.text) for name in names)), None)
    missing = [] if kind else ["text encoder"]
    if not any(name.startswith("first_stage_model.") for name in names):
        missing.append("autoencoder (VAE)")
    if kind is None or missing:
        raise LayoutError(f"it lacks its {' and its '.join(missing)}. {_WHOLE}")
    return kind
