"""Train an adapter on a folder of pictures.

from lorastyle.train import TrainConfig, fit

fit(TrainConfig(images="sticker/"))
"""

from __future__ import annotations

from .cache import cache_folder
from .config import TrainConfig
from .dataset import Dataset, scan
from .events import (
    Checkpointed,
    Event,
    Finished,
    FitResult,
    Listener,
    PlanReady,
    Preparing,
    SampleDrawn,
    StepDone,
    Warned,
)
from .fitting import fit
from .plan import Plan, make_plan

__all__ = [
    "Checkpointed",
    "Dataset",
    "Event",
    "Finished",
    "FitResult",
    "Listener",
    "Plan",
    "PlanReady",
    "Preparing",
    "SampleDrawn",
    "StepDone",
    "TrainConfig",
    "Warned",
    "cache_folder",
    "fit",
    "make_plan",
    "scan",
]
