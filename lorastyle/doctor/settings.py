"""Environment variables that change what happens, and whether there is a token for the Hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from .private import TOKENS

NAMES = (
    *("LORASTYLE_BASE", "LORASTYLE_HOME", "LORASTYLE_CACHE"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"),
)


@dataclass(frozen=True)
class Settings:
    """What the environment says."""

    variables: Mapping[str, str] = field(default_factory=dict[str, str])  # of NAMES, those that are set
    hub_offline: bool = False
    hub_token: str = "none"  # where it is: "HF_TOKEN", "hf auth login", "none"; never its value


def look_at_settings() -> Settings:
    """The variables that are set."""
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    named = next((name for name in TOKENS if os.environ.get(name)), None)
    return Settings(
        {name: os.environ[name] for name in NAMES if name in os.environ},
        hub_offline=bool(HF_HUB_OFFLINE),
        hub_token=named or ("hf auth login" if get_token() else "none"),
    )
