"""A whole base in one file with the names of its makers' code (CompVis, Stability), as Civitai ships them.

kinds       which family, or what else the file is
unet, vae, text    names and shapes of the tensors -> a config, and where each weight lies
prediction  noise or v: who says so
checkpoint  all of that from the header alone; assemble    the pipeline
"""

from __future__ import annotations

from .assemble import read_checkpoint
from .checkpoint import Checkpoint, inspect_checkpoint
from .parts import Source
from .prediction import PREDICTION_TYPES, Prediction, check_prediction_type

__all__ = [
    "PREDICTION_TYPES",
    "Checkpoint",
    "Prediction",
    "Source",
    "check_prediction_type",
    "inspect_checkpoint",
    "read_checkpoint",
]
