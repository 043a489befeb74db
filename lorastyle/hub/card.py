"""The model card of an adapter: what the Hub shows of it, and what its search and its widget read.

Source of the fields: https://huggingface.co/docs/hub/model-cards and the cards of diffusers' training
scripts; `template:sd-lora` is what gives a page its gallery.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorastyle.adapters import AdapterInfo, family_title

from .models import standard_model

_TAGS = {"sd1": "stable-diffusion", "sd2": "stable-diffusion", "sdxl": "stable-diffusion-xl"}
# Keys of our own recipe, in the words that `AdapterInfo.training` has for kohya's
_OWN_LABELS: Mapping[str, str] = {
    "images": "images",
    "steps": "steps",
    "batch_size": "batch",
    "resolution": "resolution",
    "lr": "learning rate",
    "optimizer": "optimizer",
}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~!])")


@dataclass(frozen=True)
class Shown:
    """A picture of the gallery: its path in the repository, and the words under it."""

    path: str
    text: str


def model_card(
    info: AdapterInfo,
    repo: str,
    file: str,
    *,
    base_model: str | None = None,
    license: str | None = None,
    gallery: Sequence[Shown] = (),
) -> str:
    """The text of README.md.

    Whatever the file says of itself is put in as plain words, never as Markdown or HTML.

    Args:
        repo: "owner/name".
        file: the adapter's path in the repository; of a peft folder "".
        base_model: the Hub id of the model it was made for; None takes the one that stands for its family.
        license: an id of the Hub's list, such as "openrail++"; left out where nobody says.
    """
    from huggingface_hub import ModelCardData

    base_model = base_model or standard_model(info.family, v_prediction=_predicts_v(info))
    fields: dict[str, Any] = {
        "library_name": "diffusers" if info.family in _TAGS else None,
        "base_model": base_model,
        "base_model_relation": "adapter" if base_model else None,
        "license": license,
        "tags": _tags(info),
        "instance_prompt": _line(info.trigger) if info.trigger else None,
        "widget": [{"text": _line(one.text), "output": {"url": one.path}} for one in gallery] or None,
    }
    data = ModelCardData(**fields)
    title = _words(info.name or repo.split("/")[-1])
    parts = [
        f"# {title}",
        "<Gallery />" if gallery else "",
        _about(info),
        _trigger(info),
        _how(info),
        _use(info, repo, file, base_model),
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _predicts_v(info: AdapterInfo) -> bool:
    """Whether it was trained on a model that predicts v, by our own key or by kohya's."""
    recipe = info.recipe
    return (
        recipe.get("lorastyle.prediction_type") == "v_prediction"
        or recipe.get("ss_v_parameterization", "").lower() == "true"
    )


def _tags(info: AdapterInfo) -> list[str]:
    known = _TAGS.get(info.family or "")
    served = (known, "diffusers", "template:sd-lora") if known else ()
    return ["text-to-image", "lora", *served, "lorastyle"]


def _about(info: AdapterInfo) -> str:
    ranks = ", ".join(f"{rank}" for rank in sorted(info.ranks))
    rank = f", rank {ranks}" if len(info.ranks) <= 3 and ranks else ""
    return f"An adapter for {_words(family_title(info.family))}{rank}, {info.file_bytes / 1e6:.1f} MB."


def _trigger(info: AdapterInfo) -> str:
    if not info.trigger:
        return ""
    return f"## Trigger words\n\nPut `{_code(info.trigger)}` into the prompt."


def _how(info: AdapterInfo) -> str:
    """What its makers recorded, theirs (`ss_*`) or ours, in a few rows."""
    own = _own_recipe(info.recipe)
    ours = {
        "trained on": info.recipe.get("lorastyle.base_name"),
        **{label: own.get(key) for key, label in _OWN_LABELS.items()},
    }
    rows = {**info.training, **{name: value for name, value in ours.items() if value not in (None, "")}}
    told = [f"| {name} | {_words(str(value))} |" for name, value in rows.items()]
    return "\n".join(["## How it was made", "", "| | |", "|---|---|", *told]) if told else ""


def _own_recipe(recipe: Mapping[str, str]) -> dict[str, Any]:
    try:
        own = json.loads(recipe.get("lorastyle.recipe", "{}"))
    except ValueError:
        return {}
    return own if isinstance(own, dict) else {}


def _use(info: AdapterInfo, repo: str, file: str, base_model: str | None) -> str:
    prompt = _code(info.trigger or "a cat").replace('"', "'")
    name = f"{repo}/{file}" if file else repo
    base = f" --base {base_model}" if base_model else ""
    lines = ["## Use it", "", "```sh", f'lorastyle generate "{prompt}" -a {name}:0.8{base}', "```"]
    if base_model and info.family in _TAGS:
        lines += [
            "",
            "```python",
            "from diffusers import AutoPipelineForText2Image",
            "",
            f'pipe = AutoPipelineForText2Image.from_pretrained("{base_model}")',
            f'pipe.load_lora_weights("{repo}"' + (f', weight_name="{file}")' if file else ")"),
            f'picture = pipe("{prompt}").images[0]',
            "```",
        ]
    return "\n".join(lines)


def _line(text: str) -> str:
    """One line of text without control characters, of a length that a page bears."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]


def _words(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", _line(text))


def _code(text: str) -> str:
    return _line(text).replace("`", "'")
