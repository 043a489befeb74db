"""The Hugging Face Hub: adapters from it (`pull`), adapters onto it (`prepared`, `publish`), and its names.

Importing this package imports neither torch nor huggingface_hub.
"""

from __future__ import annotations

from .card import model_card
from .models import STANDARD_MODELS, standard_model
from .names import HubAdapter, split_hub_id
from .publishing import Example, Published, Upload, prepared, publish
from .pulling import cached, pull
from .reasons import why

__all__ = [
    "STANDARD_MODELS",
    "Example",
    "HubAdapter",
    "Published",
    "Upload",
    "cached",
    "model_card",
    "prepared",
    "publish",
    "pull",
    "split_hub_id",
    "standard_model",
    "why",
]
