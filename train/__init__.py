"""Train an adapter on a folder of pictures.

from lorastyle.train import TrainConfig, fit

fit(TrainConfig(images="sticker/"))
"""

from __future__ import annotations

from .captions import default_trigger
from .config import TrainConfig
from .dataset import Dataset, scan
from .events import (
    Begun,
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
from .follow import list_runs, observe, printed
from .launch import launch, request_stop, restart
from .plan import Plan, make_plan
from .run import RunFolder
from .status import RunStatus

__all__ = [
    "Begun",
    "Checkpointed",
    "Dataset",
    "Event",
    "Finished",
    "FitResult",
    "Listener",
    "Plan",
    "PlanReady",
    "Preparing",
    "RunFolder",
    "RunStatus",
    "SampleDrawn",
    "StepDone",
    "TrainConfig",
    "Warned",
    "default_trigger",
    "fit",
    "launch",
    "list_runs",
    "make_plan",
    "observe",
    "printed",
    "request_stop",
    "restart",
    "scan",
]
