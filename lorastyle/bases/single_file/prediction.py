"""Does the UNet predict the noise (epsilon) or v? The weights' names and shapes are the same for both.

Who is asked, the first who knows deciding: the caller; `<file>.yaml` beside the file, the makers' own
training config; tensors named `v_pred` and `ztsnr`, the mark of SDXL models trained on v; the file's
ModelSpec metadata. SD 1.x and XL are otherwise taken for epsilon, as their makers trained them. SD 2.x came
as both, so there the UNet itself is asked (`asked`), and a warning says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lorastyle.errors import BaseError, near_miss

PREDICTION_TYPES = ("epsilon", "v_prediction")

_LARGEST_YAML = 1_000_000
_WORDS = {
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "v-prediction": "v_prediction",
    "eps": "epsilon",
    "epsilon": "epsilon",
}


@dataclass(frozen=True)
class Prediction:
    """What a UNet predicts, and how that is known.

    Attributes:
        type: "epsilon" or "v_prediction".
        source: who said so, in words for people.
        stated: False where nobody did and it was found out or assumed for a family that came as both.
        zero_snr: trained with a noise schedule that ends in noise alone (arXiv 2305.08891).
    """

    type: str
    source: str
    stated: bool = True
    zero_snr: bool = False


def check_prediction_type(word: str) -> str:
    """`word` itself.

    Raises:
        BaseError: it is no prediction type.
    """
    if word not in PREDICTION_TYPES:
        raise BaseError(
            f'prediction_type is "{word}"; allowed are {" and ".join(PREDICTION_TYPES)}.'
            f"{near_miss(word, PREDICTION_TYPES)}"
        )
    return word


def stated_prediction(
    path: Path,
    names: Collection[str],
    metadata: Mapping[str, str],
    *,
    wanted: str | None,
    default: str | None,
) -> Prediction | None:
    """What is said about the file at `path`; None where nobody says and the family has no `default`.

    Args:
        names: of the file's tensors.
        metadata: of the file's header.
        wanted: the caller's choice, which settles it.
        default: what the family was trained on, where that is one thing.
    """
    sidecar = path.with_suffix(".yaml")
    told = (
        (wanted, "you chose it"),
        (_in_yaml(sidecar), f"{sidecar.name} says so"),
        ("v_prediction" if "v_pred" in names else None, "the file marks it by a tensor named v_pred"),
        (_in_metadata(metadata), "the file's metadata says so"),
        (default, "its family was trained so"),
    )
    for word, source in told:
        if word is not None:
            # where there is noise alone, predicting noise would teach and tell nothing
            return Prediction(word, source, zero_snr="ztsnr" in names and word == "v_prediction")
    return None


def _in_yaml(path: Path) -> str | None:
    """The answer of a training config: `parameterization`, or the scaling of Stability's newer code."""
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_YAML).decode("utf-8", errors="replace")
    except OSError:  # most files have none beside them, and one that cannot be read says nothing
        return None
    if found := re.search(r"^\s*parameterization:\s*[\"']?(v|eps)\b", text, re.MULTILINE):
        return _WORDS[found[1]]
    if found := re.search(r"\b(V|Eps)Scaling\b", text):
        return _WORDS[found[1].lower()]
    # LatentDiffusion's own default, where the config is one of its
    return "epsilon" if re.search(r"^\s*target:.*LatentDiffusion", text, re.MULTILINE) else None


def _in_metadata(metadata: Mapping[str, str]) -> str | None:
    """ModelSpec's answer: its own field, else the architecture's name where that tells."""
    word = metadata.get("modelspec.prediction_type", "").strip().lower()
    architecture = metadata.get("modelspec.architecture", "")
    if word in _WORDS:
        return _WORDS[word]
    if architecture.startswith("stable-diffusion-v2"):
        return "v_prediction" if architecture.startswith("stable-diffusion-v2-768-v") else "epsilon"
    return None


@torch.no_grad()
def asked(pipe: Any) -> tuple[str, float]:
    """Show the UNet pure noise at the last timestep: the prediction type, and how alike answer and noise are.

    There a UNet that predicts noise has it before its eyes and gives it back, so the two correlate (1). v is
    sqrt(a) noise - sqrt(1 - a) picture (arXiv 2202.00512, appendix D) with a near 0: next to no noise (0).
    """
    unet = pipe.unet
    shape = (1, int(unet.config.out_channels), 32, 32)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(unet.device, unet.dtype)
    # an inpainting model reads a mask and a picture as well: all of it is to be drawn, and nothing is known
    beside = noise.new_zeros((1, int(unet.config.in_channels) - shape[1], 32, 32))
    beside[:, :1] = 1
    words = pipe.tokenizer("", padding="max_length", max_length=pipe.tokenizer.model_max_length)
    ids = torch.tensor([words.input_ids], device=unet.device)
    last = torch.tensor([int(pipe.scheduler.config.num_train_timesteps) - 1], device=unet.device)
    seen = torch.cat([noise, beside], 1)
    answer = unet(seen, last, encoder_hidden_states=pipe.text_encoder(ids)[0].to(unet.dtype)).sample
    both = torch.stack([answer.flatten(), noise.flatten()]).float()
    alike = float(torch.corrcoef(both)[0, 1].nan_to_num())
    return ("epsilon" if alike > 0.5 else "v_prediction"), alike
