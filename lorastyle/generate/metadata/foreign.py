"""Pictures of other tools: InvokeAI's settings are read, the others are recognised and named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from lorastyle.errors import PictureError, shortened

from ..prompt_syntax import as_words
from ..request import GenerateRequest
from ..schedulers import scheduler_name
from .own import read_json
from .portable import adapter_name, last_part
from .recorded import Recorded, as_table, clamped

_GRAPH = "keeps its settings as a graph of nodes, which is not read: open it there, and copy the prompt"
_OTHERS: Mapping[str, tuple[str, str]] = {
    "prompt": ("ComfyUI", _GRAPH),
    "workflow": ("ComfyUI", _GRAPH),
    "sd-metadata": ("InvokeAI before version 3", "kept its settings in a form that is not read"),
    "Dream": ("InvokeAI before version 3", "kept its settings in a form that is not read"),
    "dream": ("InvokeAI before version 3", "kept its settings in a form that is not read"),
    "DgenerateConfig": ("dgenerate", "keeps its settings in a form that is not read"),
}
_INVOKEAI = {
    "prompt": "positive_prompt",
    "negative_prompt": "negative_prompt",
    "seed": "seed",
    "steps": "steps",
    "guidance": "cfg_scale",
    "guidance_rescale": "cfg_rescale_multiplier",
    "width": "width",
    "height": "height",
}
_HUGE = 1e9  # NaN and infinity are beyond it too
_IN_PARAMETERS = {"sui_image_params": "SwarmUI", "metadata_scheme": "Fooocus", "base_model": "Fooocus"}


def explain_foreign(texts: Mapping[str, str]) -> PictureError:
    """Why a picture that holds none of the texts that are read has no settings for us."""
    for key, (tool, why) in _OTHERS.items():
        if key in texts:
            return PictureError(f"it was drawn with {tool}, which {why}.")
    if texts.get("Software", "").startswith("NovelAI"):
        return PictureError("it was drawn with NovelAI, which keeps its settings in a form that is not read.")
    return PictureError(
        "there is no request in this picture. It was saved without one, or a web page removed it."
    )


def refuse_json(parameters: str) -> None:
    """Is the `parameters` text another tool's JSON?

    Raises:
        PictureError: it is; the tool is named.
    """
    text = parameters.strip()
    if not (text.startswith("{") and text.endswith("}")):  # a prompt of A1111 may begin with a brace as well
        return
    tool = next((tool for key, tool in _IN_PARAMETERS.items() if f'"{key}"' in parameters), "another tool")
    raise PictureError(f"it was drawn with {tool}, which keeps its settings in a form that is not read.")


def read_invokeai(text: str) -> Recorded:
    """The request in an `invokeai_metadata` text.

    Raises:
        PictureError: not JSON, or no prompt in it.
        ConfigError: values that cannot be used.
    """
    content = as_table(read_json(text, "invokeai_metadata")) or {}
    if not isinstance(content.get("positive_prompt"), str):
        raise PictureError("its invokeai_metadata text holds no prompt.")
    remarks: list[str] = []
    given = {key: content[name] for key, name in _INVOKEAI.items() if content.get(name) is not None}
    for key in ("prompt", "negative_prompt"):  # BREAK, AND and edits are words in InvokeAI
        words = given.get(key)
        if isinstance(words, str):
            given[key] = as_words(words)
    values, moved = clamped(given)
    scheduler = content.get("scheduler")
    if isinstance(scheduler, str):
        karras = scheduler.endswith("_k")
        values["scheduler"] = scheduler_name(scheduler.removesuffix("_k") + " karras" * karras)
        if values["scheduler"] is None:
            remarks.append(f"There is no scheduler {shortened(scheduler, 60)} here: the base's own is used.")
    values["adapters"] = _adapters(content.get("loras"), remarks)
    if content.get("controlnets") or content.get("ipAdapters"):
        remarks.append("It was drawn with control images, which have no counterpart here: left out.")
    model = (as_table(content.get("model")) or {}).get("name")
    return Recorded(
        GenerateRequest.from_dict(values),
        (*remarks, *moved),
        model=last_part(model) if isinstance(model, str) else None,
    )


def _adapters(loras: object, remarks: list[str]) -> list[object]:
    scales: dict[str, float] = {}
    for entry in cast("list[object]", loras) if isinstance(loras, list) else []:
        lora = as_table(entry) or {}
        model = as_table(lora.get("model")) or as_table(lora.get("lora")) or {}
        name, weight = model.get("name") or model.get("model_name"), lora.get("weight", 1.0)
        if isinstance(name, str) and isinstance(weight, (int, float)) and abs(weight) < _HUGE:
            scales[adapter_name(name)] = scales.get(adapter_name(name), 0.0) + weight
        else:
            remarks.append(f"One of its adapters cannot be read: {shortened(entry, 60)}.")
    return [{"name": name, "scale": scale} for name, scale in scales.items()]
